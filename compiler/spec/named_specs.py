"""Models that runs of other specs make (`{spec: other.yaml, variant: kd}`): which run of which file is meant.

A run may name a run of its own file, too, as long as no run is made of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from os.path import isdir, isfile
from pathlib import Path

from ..diagnostics.diagnostic import Trail, did_you_mean, listed, quoted, shown_path
from ..diagnostics.regular_file import real_path
from .compiled import Compiled, NamedRun, Run, named_runs
from .experiment import Experiment, LayerOrigin, ModelReference, OutsideOrigin
from .parse import near_file

MAX_CHAIN = 20  # runs of which each names the next
MOST_LISTED = 12

Identity = tuple[Path, str]  # file and label of a run


class NamedSpecs:
    """The specs that a spec names, each compiled once. `compile_file` compiles one by itself, without looking at
    what it names."""

    def __init__(self, file: Path, compile_file: Callable[[Path], Compiled]) -> None:
        self._compile_file = compile_file
        self._names = {real_path(file): file}
        self._specs: dict[Path, Compiled] = {}
        self._runs: dict[Identity, Run] = {}
        self._heights: dict[Identity, int] = {}  # how many runs name each other from this one on

    def follow(self, compiled: Compiled) -> Compiled:
        """The spec with the runs that its runs name. Reports, where they are named, E431 (no such file), E432 (it
        is no spec), E433 (several runs can be meant), E434 (no such run), E435 (a circle)."""
        runs = [self._linked(run, ()) for run in compiled.runs]
        texts = dict(compiled.texts)
        for named, _ in named_runs(runs):
            texts = {**named.spec.texts, **texts}
        return replace(compiled, runs=runs, texts=texts)

    def _linked(self, run: Run, chain: tuple[Identity, ...]) -> Run:
        """`chain`: the runs that name this one, the nearest last."""
        named: dict[Trail, NamedRun] = {}
        for path, reference in named_models(run.experiment):
            if run.reporter.is_reliable(path):
                found = self._found(reference, path, run, (*chain, _identity(run)))
                if found is not None:
                    named[path] = found
        return replace(run, named=named) if named else run

    def _found(self, reference: ModelReference, path: Trail, run: Run, chain: tuple[Identity, ...]) -> NamedRun | None:
        spec = self._spec(reference, (*path, "spec"), run)
        if spec is None:
            return None
        chosen = _chosen(spec, reference, path, run) if spec.runs else None
        model = reference.model or "student"
        if chosen is None:
            return None if spec.runs else NamedRun(spec, None, model)
        identity = _identity(chosen)
        if identity in chain:
            names = [_name(*link) for link in (*chain[chain.index(identity) :], identity)]
            message = f"circular dependency: {' needs '.join(names)}"
            hint = "name another model here: a run cannot be made of its own result"
            run.reporter.error("E435", (*path, "spec"), message, hint)
            return None
        if identity not in self._runs and len(chain) <= MAX_CHAIN:
            linked = self._runs[identity] = self._linked(chosen, chain)
            below = (_identity(named.run) for named in linked.named.values() if named.run is not None)
            self._heights[identity] = 1 + max((self._heights[other] for other in below), default=0)
        if self._heights.get(identity, MAX_CHAIN) >= MAX_CHAIN:
            run.reporter.error(
                "E435",
                (*path, "spec"),
                f"more than {MAX_CHAIN} runs depend on one another in a chain",
                "name the folder of a model that is there: `{path: ...}`",
            )
            return None
        return NamedRun(spec, self._runs[identity], model)

    def _spec(self, reference: ModelReference, where: Trail, run: Run) -> Compiled | None:
        file = Path(reference.spec or "")
        shown = shown_path(file)
        if not isfile(file):
            near = near_file(file)
            hint = f"did you mean {Path(near.name)}?" if near else "the path is relative to the file that it stands in"
            if isdir(file):
                hint = "a folder with a model is named by `path`; `spec` names a file"
            what = f"{shown} is a folder, not a spec" if isdir(file) else f"there is no spec {shown}"
            run.reporter.error("E431", where, what, hint)
            return None
        resolved = real_path(file)
        if resolved not in self._specs:
            self._specs[resolved] = self._compile_file(self._names.setdefault(resolved, Path(shown)))
        spec = self._specs[resolved]
        if not spec.is_spec:
            run.reporter.error(
                "E432",
                where,
                f"{shown} is not a spec: it has neither version, task, teacher nor student",
                "name a spec; a folder with a model is named by `path`",
            )
            return None
        return spec


def named_models(experiment: Experiment) -> Iterator[tuple[Trail, ModelReference]]:
    """Where a run names a model of another spec's, and how."""
    init = experiment.student.init
    references: list[tuple[Trail, ModelReference | None]] = [(("teacher",), experiment.teacher.reference)]
    for part, origin in (("encoder", init.encoder), ("decoder", init.decoder), ("embeddings", init.embeddings)):
        if isinstance(origin, LayerOrigin | OutsideOrigin):
            references.append((("student", "init", part, "from"), origin.from_))
    references += [(("pseudo_labels", name, "by"), item.by) for name, item in experiment.pseudo_labels.items()]
    for path, reference in references:
        if reference is not None and reference.spec is not None:
            yield path, reference


def _chosen(spec: Compiled, reference: ModelReference, path: Trail, run: Run) -> Run | None:
    """The run that is meant: by its name without the spec's, or by its variant, when that is one run."""
    name, shown = reference.variant, shown_path(Path(reference.spec or ""))
    runs = spec.runs
    if name is not None:
        exact = [other for other in runs if other.label == name]
        runs = exact or [other for other in runs if other.experiment.variant == name]
        if not runs:
            labels = [other.label for other in spec.runs if other.label]
            near = did_you_mean(name, [*labels, *(other.experiment.variant or "" for other in spec.runs)])
            known = f"its runs are {_listed(labels)}" if labels else "it has one run: leave `variant` out"
            run.reporter.error(
                "E434",
                (*path, "variant"),
                f"{shown} has no variant or run {quoted(name)}",
                f"did you mean {near}? {known}" if near else known,
            )
            return None
    if len(runs) == 1 or (reference.model == "teacher" and _same_teacher(runs)):
        return runs[0]
    labels = [other.label for other in runs if _identity(other) != _identity(run)]
    what = shown if name is None else f"the variant {name} of {shown}"
    run.reporter.error(
        "E433",
        (*path, "spec" if name is None else "variant"),
        f"{what} has {len(runs)} runs, and `variant` does not name one of them",
        f"name it: `variant: {labels[0]}`; the runs are {_listed(labels)}",
    )
    return None


def _same_teacher(runs: Sequence[Run]) -> bool:
    """Do these runs have the same teacher, trained alike?"""
    first = runs[0].experiment
    return all(
        (run.experiment.teacher, run.experiment.task, run.experiment.data) == (first.teacher, first.task, first.data)
        for run in runs[1:]
    )


def _identity(run: Run) -> Identity:
    return real_path(run.spec_file), run.label


def _name(file: Path, label: str) -> str:
    return f"{shown_path(file)}#{label}" if label else shown_path(file)


def _listed(labels: Sequence[str]) -> str:
    more = len(labels) - MOST_LISTED
    return listed(labels, "and") if more <= 0 else f"{', '.join(labels[:MOST_LISTED])} and {more} more"
