"""Rules about stopping, validation, warm-up and generation."""

from __future__ import annotations

from collections.abc import Sequence

from ..diagnostics.diagnostic import Reporter, Trail
from ..spec.experiment import Experiment
from ..spec.phases import OF_A_PHASE
from ..spec.ways import generations, trainings
from .context import SpecContext


def check_bounds(spec: SpecContext) -> None:
    """A training has an end (E407)."""
    run, reporter = spec.run, spec.reporter
    for path, part in trainings(run):
        stopping = part.stopping
        if all(
            bound is None
            for bound in (
                stopping.max_epochs,
                stopping.max_steps,
                stopping.max_hours,
                stopping.patience,
                stopping.retention,
            )
        ):
            reporter.error(
                "E407",
                (*path, "stopping"),
                "nothing stops this training",
                "set one of max_epochs, max_steps, max_hours, patience and retention",
                at="key",
            )


def check_validations(spec: SpecContext) -> None:
    """Validations and patience are reached before the training ends (W402)."""
    run, reporter = spec.run, spec.reporter
    for path, part in trainings(run):
        every, stopping = part.validation.every, part.stopping
        if stopping.max_steps == 0:
            continue  # it is validated once, as it is
        for unit, step, end in (
            ("epochs", every.epochs, stopping.max_epochs),
            ("steps", every.steps, stopping.max_steps),
        ):
            if step is None or end is None:
                continue
            where: Trail = (*path, "validation", "every", unit)
            limit: Trail = (*path, "stopping", f"max_{unit}")
            if step > end:
                reporter.warning(
                    "W402",
                    where,
                    f"the first validation is due after {_number(step)} {unit}, and training ends after {_number(end)}",
                    "validate more often",
                    because=[limit],
                )
            elif stopping.patience is not None and stopping.patience * step >= end:
                reporter.warning(
                    "W402",
                    (*path, "stopping", "patience"),
                    f"a patience of {stopping.patience} never stops a training with a validation every "
                    f"{_number(step)} {unit} and an end after {_number(end)}",
                    "validate more often, or allow more " + unit,
                    because=[where, limit],
                )


def check_warmup(spec: SpecContext) -> None:
    """The warm-up ends before the training does (W403), and its length is known (E407)."""
    run, reporter = spec.run, spec.reporter
    for path, part in trainings(run):
        warmup, end = part.optimization.warmup, part.stopping.max_steps
        if warmup is None or end == 0:
            continue  # as long as is good for the training
        steps = warmup.steps
        if steps is not None and end is not None and steps >= end:
            reporter.warning(
                "W403",
                (*path, "training", "warmup", "steps"),
                f"the warm-up takes {steps} steps and the training ends after {end}",
                "shorten the warm-up, for example `warmup: {ratio: 0.1}`",
                because=[(*path, "stopping", "max_steps")],
            )
        endless = part.stopping.max_epochs is None and part.stopping.max_steps is None
        if warmup.ratio and endless:
            reporter.error(
                "E407",
                (*path, "training", "warmup", "ratio"),
                "the warm-up is a ratio of all steps, and the number of steps has no limit",
                "remove `warmup`, write `warmup: {steps: 500}`, or set max_epochs or max_steps",
                because=[(*path, "stopping")],
            )


def check_generation(spec: SpecContext) -> None:
    """Lengths of generated text are possible (E408); validation has no engine of its own (E574)."""
    run, reporter = spec.run, spec.reporter
    for path, generation in generations(run):
        low, high = generation.min_length, generation.max_length
        if low is not None and high is not None and low > high:
            reporter.error(
                "E408",
                (*path, "min_length"),
                f"min_length {low} is more than max_length {high}",
                "lower min_length, or raise max_length",
                because=[(*path, "max_length")],
            )
        if "validation" not in path:
            continue
        for name in ("engine", "compute_type", "sampling"):
            if getattr(generation, name) not in (None, "auto", "transformers"):
                reporter.error(
                    "E574",
                    (*path, name),
                    f"validation has no {name}: transformers generates with the model in training",
                    f"remove {name} here; `evaluation.generation` has it",
                )


def check_search_settings(spec: SpecContext) -> None:
    """Settings of a beam search where there is none (W573)."""
    run, reporter = spec.run, spec.reporter
    for path, generation in generations(run):
        sampling, beams = generation.sampling, generation.beams
        if (beams or 1) > 1 or (sampling is None and beams is None):
            continue  # there is one, the checkpoint decides, or it was said that the two do not go together
        what = "sampling" if sampling is not None else "beams"
        why = "texts are sampled" if sampling is not None else "there is 1 beam"
        # The length is in the score of a label, however it was found.
        names = ("early_stopping",) if path[0] == "pseudo_labels" else ("length_penalty", "early_stopping")
        for name in names:
            if getattr(generation, name) is not None:
                reporter.warning(
                    "W573",
                    (*path, name),
                    f"{name} has no effect: it is for a beam search, and {why}",
                    "remove it" + ("" if sampling is not None else ", or write `beams: 2` or more"),
                    because=[(*path, what)],
                )


def _number(value: float) -> str:
    return f"{value:g}"


def check_retention(spec: SpecContext) -> None:
    """Reports E510: a teacher's training that would stop at a percentage of its teacher's score."""
    run, reporter = spec.run, spec.reporter
    own = run.teacher.train
    if own is not None and own.stopping.retention:
        reporter.error(
            "E510",
            ("teacher", "train", "stopping", "retention"),
            "retention is a percentage of the teacher's score; the teacher itself has no teacher",
            "remove it, or stop by max_epochs, max_steps, max_hours or patience",
            at="key",
        )


def check_sections_used(runs: Sequence[tuple[Experiment, Reporter]], reporter: Reporter) -> None:
    """A section that every phase of every run has its own of has no effect (W404)."""
    for section in OF_A_PHASE:
        path: Trail = (section,)
        if any(own.typed(path) == path for _, own in runs):
            continue
        for _, own in runs:
            if path in own.places.values:
                place = own.places.values[path]
                own.warning_at(
                    "W404",
                    place,
                    f"`{section}` has no effect: every phase of `training` has its own",
                    "remove it here, or in the phases that are to take it",
                    path,
                )
