"""The runs of a spec, as far as they could be made out, and everything that was reported on the way.

A run may name a model that a run of another spec makes: that one, and what was reported about it, hangs on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Literal

from ..diagnostics.diagnostic import Diagnostic, Reporter, Trail, in_order
from ..diagnostics.record import record
from .experiment import Experiment


@record
class Run:
    """One run of a spec: typed, as a resolved tree (JSON values, defaults filled in), and its reporter.
    `label` is its name without the spec's ("" when it is the only run); `unsure`: what of its task and its models was
    refused, so that a stand-in is there; `named`: where it names a model of another spec's -> the run that makes it."""

    experiment: Experiment
    tree: Mapping[str, Any]
    reporter: Reporter
    spec_file: Path
    label: str
    unsure: tuple[Trail, ...]
    named: Mapping[Trail, NamedRun] = field(default_factory=dict)


@record
class NamedRun:
    """A run that is named for a model that it makes: its student, or its teacher. `spec`: the spec it is of;
    `run` None: that is so wrong that its runs are not known."""

    spec: Compiled
    run: Run | None
    model: Literal["student", "teacher"]


@record
class Compiled:
    """The runs of a spec, as far as they could be made out. `texts`: file -> text, for printing; `general`:
    what there is to say about the spec as a whole; `is_spec`: does it look like one at all?"""

    runs: list[Run]
    general: list[Diagnostic]
    texts: Mapping[str, str]
    is_spec: bool = True

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """Everything reported so far, each once, by position; what concerns some of the runs names them. What
        concerns the runs that are named names who names them."""
        is_news = _news(self.general)
        found: dict[Diagnostic, list[Run]] = {}
        for run in self.runs:
            for diagnostic in run.reporter.diagnostics:
                if is_news(diagnostic):
                    found.setdefault(diagnostic, []).append(run)
        of_runs = (replace(d, runs=self._names(runs)) for d, runs in found.items())
        return in_order(told_once([*filter(is_news, self.general), *of_runs, *self._of_named()]))

    @property
    def all_runs(self) -> list[Run]:
        """The runs, and those that they name, directly or not."""
        return [*self.runs, *(named.run for named, _ in named_runs(self.runs) if named.run is not None)]

    @property
    def failed(self) -> bool:
        """Was an error reported, of this spec or of a run that it names?"""
        errors = any(d.severity == "error" for d in self.general) or any(run.reporter.failed for run in self.runs)
        return errors or any(d.severity == "error" for d in self._of_named())

    def _of_named(self) -> Iterator[Diagnostic]:
        for named, by in named_runs(self.runs):
            found = [*named.spec.general, *(named.run.reporter.diagnostics if named.run is not None else ())]
            yield from (replace(d, named_by=by) for d in filter(_news(named.spec.general), found))

    def _names(self, some: list[Run]) -> tuple[str, ...]:
        """Some of the runs by name, whole variants by theirs; () for all of them."""
        if len(some) == len(self.runs):
            return ()
        totals = Counter(run.experiment.variant for run in self.runs)
        counts = Counter(run.experiment.variant for run in some)
        words = (
            f"variant {run.experiment.variant}"
            if run.experiment.variant is not None and counts[run.experiment.variant] == totals[run.experiment.variant]
            else f"run {run.label}"
            for run in some
        )
        return tuple(dict.fromkeys(words))


def named_runs(
    runs: Sequence[Run], by: tuple[str, ...] = (), seen: set[tuple[int, int]] | None = None
) -> Iterator[tuple[NamedRun, tuple[str, ...]]]:
    """The runs that these name, directly or not, each once, with the places where they are named, the nearest
    first."""
    seen = set() if seen is None else seen
    for run in runs:
        for path, named in run.named.items():
            if (id(named.spec), id(named.run)) in seen:
                continue
            seen.add((id(named.spec), id(named.run)))
            place = run.reporter.place(path)
            chain = (f"{place.file}:{place.line}", *by)
            yield named, chain
            if named.run is not None:
                yield from named_runs([named.run], chain, seen)


def told_once(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Without those of a named spec that are there as its own, or for another one who names it."""

    def said(d: Diagnostic) -> tuple[Any, ...]:
        return d.code, d.file, d.line, d.column, d.message

    found = list(dict.fromkeys(diagnostics))
    known = {said(d) for d in found if not d.named_by}
    kept = []
    for d in found:
        if d.named_by and said(d) in known:
            continue
        known.add(said(d))
        kept.append(d)
    return kept


def _news(general: Sequence[Diagnostic]) -> Callable[[Diagnostic], bool]:
    """What could not be read as a value (E1xx) has a stand-in in the tree: that this does not fit is no news."""
    unread = {(d.file, d.line, d.column) for d in general if d.code.startswith("E1")}

    def is_news(d: Diagnostic) -> bool:
        return d.code[:2] != "E2" or (d.file, d.line, d.column) not in unread

    return is_news
