"""Rules about numbers of the loss that change while a model is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..diagnostics.diagnostic import Reporter, Trail
from ..spec.experiment import Moment, Schedule, Stopping, is_schedule
from .context import SpecContext

NEVER = Moment(epochs=None, steps=None, ratio=1.0)  # where a schedule that names no end ends


def check_schedules(spec: SpecContext) -> None:
    """Each schedule changes its number, within the steps of the training (E591 to E593, W576, W591)."""
    run, tree, reporter = spec.run, spec.tree, spec.reporter
    stopping = run.training.stopping
    for path, written in _written(tree["loss"]):
        if not written["from"] and not written["to"]:
            reporter.error(
                "E592",
                path,
                "this weight is 0 from the first step to the last",
                f"write `{path[-1]}: 0`: the term is off",
                at="key",
            )
        if written["shape"] == "step" and "end" in written:
            reporter.error(
                "E593",
                (*path, "end"),
                "a step has no duration and no `end`: it follows `begin`",
                "remove `end`, or write `shape: linear`",
                at="key",
                because=[(*path, "shape")],
            )
            continue
        schedule = run.training.loss.schedules.get(".".join(map(str, path[1:])))
        if schedule is not None:
            times_within(schedule, stopping, path, reporter)


def times_within(schedule: Schedule, stopping: Stopping, path: Trail, reporter: Reporter) -> None:
    """A schedule begins, and ends, within its training, one after the other (E591, W576, W591)."""
    begin, end = schedule.begin, schedule.end or NEVER
    if schedule.shape == "step" and 0 in (begin.epochs, begin.steps, begin.ratio):
        reporter.warning(
            "W576",
            path,
            f"the schedule steps before the training begins: the value is never {schedule.from_:g}",
            "say when it steps, for example `begin: {ratio: 0.5}`",
            at="key",
            because=[(*path, "begin")],
        )
        return
    if schedule.shape != "step" and (pair := _same_unit(begin, end, stopping)) is not None and pair[0] >= pair[1]:
        where = (*path, "end") if schedule.end is not None else (*path, "begin")
        reporter.error(
            "E591",
            where,
            f"the schedule begins after {_words(begin)} and ends after {_words(end)}",
            "end it later or begin it earlier; for a sudden change write `shape: step`",
            because=[(*path, "begin")] if schedule.end is not None else [],
        )
        return
    limits = {"steps": stopping.max_steps, "epochs": stopping.max_epochs}
    for name, moment in (("begin", begin), ("end", schedule.end)):
        for unit, most in limits.items():
            given = None if moment is None else getattr(moment, unit)
            if given is None or most is None or given < most or (name == "end" and given == most):
                continue
            reached = f"stays {schedule.from_:g}" if name == "begin" else f"never becomes {schedule.to:g}"
            reporter.warning(
                "W591",
                (*path, name),
                f"the training ends after {most:g} {unit}: the value {reached}",
                f"{name} it earlier, for example `{name}: {{ratio: {0.1 if name == 'begin' else 0.5}}}`",
                because=[("stopping", f"max_{unit}")],
            )
            return


def _same_unit(one: Moment, other: Moment, stopping: Stopping) -> tuple[float, float] | None:
    """Both in the same unit; None: how many steps an epoch has is known with the data alone."""
    for unit, most in (("steps", stopping.max_steps), ("epochs", stopping.max_epochs), ("ratio", 1.0)):
        found = [_in(moment, unit, most, stopping) for moment in (one, other)]
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    return None


def _in(moment: Moment, unit: str, most: float | None, stopping: Stopping) -> float | None:
    """A moment in a unit of which the whole training has `most`; None: it cannot be told."""
    if (given := getattr(moment, unit)) is not None:
        return float(given)
    if 0 in (moment.epochs, moment.steps, moment.ratio):
        return 0.0
    both = stopping.max_steps is not None and stopping.max_epochs is not None  # which of the two ends it?
    if moment.ratio is not None and most is not None and not both:
        return moment.ratio * most
    return None


def _words(moment: Moment) -> str:
    if moment.ratio is not None:
        return "the whole training" if moment.ratio == 1 else f"{100 * moment.ratio:g} % of the training"
    unit, value = ("epoch", moment.epochs) if moment.epochs is not None else ("step", moment.steps)
    return f"{value:g} {unit}{'' if value == 1 else 's'}"


def _written(loss: Mapping[str, Any]) -> Iterator[tuple[Trail, Mapping[str, Any]]]:
    """Each schedule of a loss as it is written, with its path."""
    for name, term in loss.items():
        if is_schedule(term):
            yield ("loss", name), term
        elif isinstance(term, Mapping):
            yield from ((("loss", name, setting), value) for setting, value in term.items() if is_schedule(value))
