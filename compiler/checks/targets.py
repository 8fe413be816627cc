"""Rules about pseudo-labels and the targets made of them."""

from __future__ import annotations

from collections.abc import Sequence

from ..diagnostics.diagnostic import Reporter, Trail, did_you_mean, listed
from ..spec.experiment import ORIGINAL, STUDENT, Experiment, Labeller
from ..spec.file_kinds import FILE_KINDS, is_refused, not_read
from ..tasks.task import TASKS
from .context import SpecContext


def check_targets(spec: SpecContext) -> None:
    """Every target is the original one or a labeller's; only text can be written by a labeller."""
    run, reporter = spec.run, spec.reporter
    known = [ORIGINAL, *run.pseudo_labels]
    for i, name in enumerate(run.targets):
        if name not in known:
            near = did_you_mean(name, known)
            reporter.error(
                "E414",
                ("targets", i),
                f"there is no labeller `{name}`",
                f"did you mean {near}?"
                if near
                else f"known: {listed(known, 'and')}; add it: `pseudo_labels: {{{name}: {{by: teacher}}}}`",
                because=[("pseudo_labels",)],
            )
        elif name != ORIGINAL and not TASKS[run.task].writes_texts:
            reporter.error(
                "E414",
                ("targets", i),
                f"labellers write texts, and the task {run.task} has none",
                "write `targets: [original]`; the term `logits` uses the teacher's distribution",
                because=[("task",)],
            )


def check_targets_once(spec: SpecContext) -> None:
    """A target is listed once; how often its rows are used is its share (E583)."""
    run, reporter = spec.run, spec.reporter
    for i, name in enumerate(run.targets):
        if name in run.targets[:i]:
            reporter.error(
                "E583",
                ("targets", i),
                f"`{name}` is listed twice in `targets`",
                f"list it once; to use every row twice: `{{{name}: 2}}`",
                because=[("targets", run.targets.index(name))],
            )


def check_labellers(spec: SpecContext) -> None:
    """What is asked of the labellers that are used can be done."""
    run, reporter = spec.run, spec.reporter
    for name in dict.fromkeys(run.targets):
        labeller = run.pseudo_labels.get(name)
        if labeller is None:
            continue
        path: Trail = ("pseudo_labels", name)
        low, high = labeller.min_length_ratio, labeller.max_length_ratio
        if low is not None and high is not None and low > high:
            reporter.error(
                "E584",
                (*path, "keep", "length_ratio", "min"),
                f"no label can pass: the minimum length ratio {low:g} is above the maximum {high:g}",
                "lower min, or raise max",
                because=[(*path, "keep", "length_ratio", "max")],
            )
        if labeller.best_of is not None:
            _check_best_of(labeller, path, reporter)
        if labeller.by is not None and labeller.by.hub == STUDENT:
            reporter.error(
                "E577",
                (*path, "by"),
                "the student cannot write the labels that it is trained on",
                "write `by: teacher`, or name a spec that trains such a student first: `by: {spec: other.yaml}`",
            )
        if labeller.file is not None:
            _check_file(run, labeller, path, reporter)


def _check_best_of(labeller: Labeller, path: Trail, reporter: Reporter) -> None:
    beams, number = labeller.generation.beams, labeller.best_of
    if labeller.generation.sampling is not None:
        return  # as many as one likes are drawn
    if number is not None and (beams or 0) < number:
        reporter.error(
            "E582",
            (*path, "best_of"),
            f"the best of {number} texts needs {number} beams or more, "
            + ("and `beams` is not set" if beams is None else f"and `beams` is {beams}"),
            f"write `generation: {{beams: {number}}}`",
            because=[(*path, "generation", "beams")] if beams is not None else [],
        )


def _check_file(run: Experiment, labeller: Labeller, path: Trail, reporter: Reporter) -> None:
    """The file is of a known kind (E412), and the training rows have ids to align it with (E581)."""
    if is_refused(labeller.file or "", FILE_KINDS):
        reporter.error("E412", (*path, "file"), *not_read(labeller.file or "", FILE_KINDS))
    if run.data.columns.id is None and any(source.builtin is None for source in run.data.train):
        reporter.error(
            "E581",
            (*path, "file"),
            "labels of a file are aligned by id, and the training rows have none",
            "name the column of their ids: `data: {columns: {id: ...}}`",
            because=[("data", "train")],
        )


def check_labellers_used(runs: Sequence[tuple[Experiment, Reporter]], reporter: Reporter) -> None:
    """A labeller that no run uses (E415)."""
    used = {name for run, _ in runs for name in run.targets}
    for run, own in runs:
        for name in run.pseudo_labels:
            if name not in used:
                own.error(
                    "E415",
                    ("pseudo_labels", name),
                    f"the labels of `{name}` are not used",
                    "add it to `targets`, or remove the labeller",
                    at="key",
                    because=[("targets",)],
                )


def check_known_to_hurt(spec: SpecContext) -> None:
    """Pseudo-labels where the literature found that they lose (arXiv 2010.13002, Table 10 and section 6.2)."""
    run, reporter = spec.run, spec.reporter
    names = [name for name in run.targets if name != ORIGINAL]
    for i, source in enumerate(run.data.train):
        if names and source.hub is not None and source.hub.lower().rsplit("/", 1)[-1] in CNN:
            reporter.warning(
                "W413",
                ("targets", run.targets.index(names[0])),
                "pseudo-labels lowered ROUGE-2 on CNN/DailyMail, by 0.6 to 1.3 points (Table 10 of arXiv 2010.13002)",
                "compare with `targets: [original]`",
                because=[("data", "train", i)],
            )


CNN = ("cnn_dailymail", "cnn-dailymail", "cnn_dm")


def check_off_policy(spec: SpecContext) -> None:
    """The teacher's distribution on texts of another model (W414)."""
    run, reporter = spec.run, spec.reporter
    if run.training.loss.logits is None:
        return
    for i, name in enumerate(run.targets):
        labeller = run.pseudo_labels.get(name)
        by = None if labeller is None else labeller.by
        if by is not None and by != run.teacher.reference and by.hub != STUDENT:
            reporter.warning(
                "W414",
                ("targets", i),
                f"the teacher's distribution is computed on texts that `{name}`, another model, wrote",
                "let the teacher write the labels (`by: teacher`), or switch the term `logits` off",
                because=[("loss", "logits"), ("pseudo_labels", name)],
            )
