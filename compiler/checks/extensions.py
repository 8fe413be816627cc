"""Rules about terms, metrics, stages and ways to train of installed packages. Their families are judged where models
are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from ..diagnostics.diagnostic import Reporter, Trail, listed
from ..extensions.built_in import fits
from ..extensions.installed import WORDS, Kind, installed
from ..extensions.stage_kinds import stage_kinds
from ..spec.experiment import Experiment
from ..spec.ways import Tree, trainings
from .context import SpecContext


def check_extensions(spec: SpecContext) -> None:
    """What a run uses of installed packages can be used, and for its task."""
    run, tree, reporter = spec.run, spec.tree, spec.reporter
    _check_stages(run, reporter)
    there = installed()
    if not there:
        return
    for kind, name, path in _used(run, tree):
        at: Literal["key", "value"] = "key" if kind in ("terms", "stages", "methods") else "value"
        extension = there.names[kind].get(name)
        if extension is not None and (problem := extension.problem) is not None:
            reporter.error(problem.code, path, problem.message, problem.hint, at=at)
        elif name in there.shadowing[kind]:
            other = there.shadowing[kind][name]
            reporter.warning(
                "W551",
                path,
                f"the {WORDS[kind]} {name} is built in; that of {other.package} is not used",
                f"pip uninstall {other.distribution}, or register it under another name",
                at=at,
            )
        elif (
            kind in ("terms", "methods")
            and extension is not None
            and not fits(extension.facts, run.task)
        ):
            reporter.error(
                "E555",
                path,
                f"{extension.words} does not fit the task {run.task}",
                f"remove it; it is for {listed(extension.facts['tasks'], 'and')}",
                at="key",
                because=[("task",)],
            )


def _check_stages(run: Experiment, reporter: Reporter) -> None:
    """Every stage that the spec names is for its task, ours as those of packages."""
    for name in run.stages:
        facts = stage_kinds().get(name, {})
        if not fits(facts, run.task):
            reporter.error(
                "E555",
                ("stages", name),
                f"the stage {name} does not fit the task {run.task}",
                f"remove it; it is for {listed(facts['tasks'], 'and')}",
                at="key",
                because=[("task",)],
            )


def _used(run: Experiment, tree: Tree) -> Iterator[tuple[Kind, str, Trail]]:
    there = installed()
    for name in tree["loss"]:
        if name in run.training.loss.own or name in there.shadowing["terms"]:
            yield "terms", name, ("loss", name)
    for name in run.stages:
        yield "stages", name, ("stages", name)
    for i, name in enumerate(run.evaluation.metrics):
        yield "metrics", name, ("evaluation", "metrics", i)
    for path, part in trainings(run):
        for i, name in enumerate(part.validation.metrics):
            yield "metrics", name, (*path, "validation", "metrics", i)
        if (method := part.optimization.method) is not None:
            yield "methods", method.name, (*path, "training", "method", method.name)
    family = run.teacher.architecture.family if run.teacher.architecture is not None else None
    if family is not None and family in there.shadowing["families"]:
        yield "families", family, ("teacher", "architecture", "family")
