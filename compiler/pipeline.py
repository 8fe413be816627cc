"""The stages of the compiler, in order, and nothing else.

compile_spec:  files -> compose -> expand -> validate -> bind -> check
lower_runs:    typed runs -> lower
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .check import check, check_together
from .compose import FRAME, compose
from .diagnostics import Diagnostic, Places, Reporter, in_order
from .expand import Expansion, Point
from .experiment import Experiment, bind_experiment
from .parse import Files, Node, without
from .sections import Section, Sections, whole_tree
from .site import Site
from .structure import Schema, load_schema


@dataclass(frozen=True)
class Run:
    """One run of a spec: typed, as a resolved tree (JSON values, defaults filled in), and its reporter.
    `label` is its name without the spec's ("" when it is the only run); `lowerable`: are its models known
    well enough to look at them?"""

    experiment: Experiment
    tree: Mapping[str, Any]
    reporter: Reporter
    spec_file: Path
    label: str
    lowerable: bool


@dataclass(frozen=True)
class Compiled:
    """The runs of a spec, as far as they could be made out. `texts`: file -> text, for printing; `general`:
    what there is to say about the spec as a whole."""

    runs: list[Run]
    general: list[Diagnostic]
    texts: Mapping[str, str]

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """Everything reported so far, each once, by position; what concerns some of the runs names them."""
        # What could not be read as a value (E1xx) has a stand-in in the tree: that this does not fit is no news.
        unread = {(d.file, d.line, d.column) for d in self.general if d.code.startswith("E1")}

        def is_news(d: Diagnostic) -> bool:
            return d.code[:2] != "E2" or (d.file, d.line, d.column) not in unread

        found: dict[Diagnostic, list[Run]] = {}
        for run in self.runs:
            for diagnostic in run.reporter.diagnostics:
                if is_news(diagnostic):
                    found.setdefault(diagnostic, []).append(run)
        of_runs = (replace(d, runs=self._named(runs)) for d, runs in found.items())
        return in_order([*filter(is_news, self.general), *of_runs])

    def _named(self, some: list[Run]) -> tuple[str, ...]:
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

    @property
    def failed(self) -> bool:
        return any(d.severity == "error" for d in self.general) or any(run.reporter.failed for run in self.runs)


def compile_spec(path: Path, overrides: tuple[str, ...], site: Site) -> Compiled:
    """A spec as typed, checked runs. What is wrong in one place does not hide what is wrong in another:
    rules across fields are also held to the parts of a spec that are well-formed."""
    schema = load_schema("experiment")
    files = Files()
    reporter = Reporter(Places(chains=files.chains), file=path)
    composed = compose(path, overrides, schema, files, reporter)
    if composed is None:
        return Compiled([], reporter.diagnostics, files.texts)
    tree, assignments = composed
    sections = Sections(schema, site.paths, files, path)
    tree = _sound_frame(tree, sections, reporter)
    points = Expansion(schema, reporter, assignments).expand(tree)
    runs = [_run(point, sections, schema, path) for point in points]
    check_together([(run.experiment, run.reporter) for run in runs], reporter)
    return Compiled(runs, reporter.diagnostics, files.texts)


def lower_runs(compiled: Compiled, site: Site, *, fingerprints: bool) -> tuple[list[dict[str, Any]], Compiled]:
    """The plans of the runs, and what was found out on the way. `fingerprints` False looks only whether
    models and data are there; the plans of a run whose model is not on this machine are then missing."""
    from .lower import Lowering

    lowering = Lowering(site, fingerprints=fingerprints)
    plans = []
    for run in compiled.runs:
        if run.lowerable:
            plan = lowering.lower(run.experiment, run.tree, run.reporter)
            if plan is not None:
                plans.append(plan)
    lowering.close()
    return plans, compiled


def read_data(compiled: Compiled, most_bytes: int | None = None) -> Compiled:
    """The data files of the runs read, those of equal data once; not at all when a run has more than
    `most_bytes` of them."""
    from .data import check_data, num_bytes
    from .label_files import label_files

    if most_bytes is not None and any(num_bytes(run.experiment) > most_bytes for run in compiled.runs):
        return compiled
    known: dict[Any, list[Diagnostic]] = {}
    for run in compiled.runs:
        experiment = run.experiment
        key = repr((experiment.task, experiment.data, label_files(experiment)))
        if key not in known:
            before = set(run.reporter.diagnostics)
            check_data(experiment, run.reporter)
            known[key] = [found for found in run.reporter.diagnostics if found not in before]
        run.reporter.take(known[key])
    return compiled


def _sound_frame(tree: Node, sections: Sections, reporter: Reporter) -> Node:
    """The tree without what does not fit the schema in `variants`, `matrix`, `seeds` and `expect`."""
    assert isinstance(tree.value, dict)
    kept = dict(tree.value)
    for key in FRAME:
        if key not in kept:
            continue
        section = sections.section(key, kept[key])
        reporter.take(section.diagnostics)
        if not section.refused:
            continue
        mended = kept.pop(key)
        for path in section.refused:
            mended = without(mended, path[1:]) if path[1:] else mended
        if not sections.section(key, mended).refused:
            kept[key] = mended
    return replace(tree, value=kept)


def _run(point: Point, sections: Sections, schema: Schema, path: Path) -> Run:
    assert isinstance(point.tree.value, dict)
    known = schema.root["properties"]
    root = sections.root(point.tree)
    parts = {key: sections.section(key, node) for key, node in point.tree.value.items() if key in known}
    parts = {key: part for key, part in parts.items() if part.resolved is not None or part.refused}
    resolved, places = whole_tree(root, parts, sections)
    refused = set(sections.files.refused).union(*_refused([root, *parts.values()]))
    experiment = bind_experiment(resolved, label=point.label, variant=point.variant)
    tree = {
        **resolved,
        "name": experiment.name,
        "tracking": {**resolved["tracking"], "experiment": experiment.tracking.experiment},
    }
    reporter = Reporter(places, unreliable=refused, file=path)
    for part in (root, *parts.values()):
        reporter.take(part.diagnostics)
    check(experiment, tree, reporter)
    unsure = [*refused, *((d.path,) for d in reporter.diagnostics if d.code == "E401")]
    lowerable = not any(str(p[0] if p else "task").startswith(OF_MODELS) for p in unsure)
    return Run(experiment, tree, reporter, path, point.label, lowerable)


OF_MODELS = ("task", "teacher", "student", "pseudo_labels")


def _refused(parts: Iterable[Section]) -> Sequence[Iterable[Any]]:
    return [part.refused for part in parts]
