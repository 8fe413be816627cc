"""Rules about terms and metrics of installed packages. Their families are judged where models are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from ..diagnostics.diagnostic import Trail, listed
from ..extensions.installed import WORDS, Kind, installed
from ..spec.experiment import Experiment
from ..spec.ways import Tree, trainings
from .context import SpecContext


def check_extensions(spec: SpecContext) -> None:
    """What a run uses of installed packages can be used, and for its task."""
    run, tree, reporter = spec.run, spec.tree, spec.reporter
    there = installed()
    if not there:
        return
    for kind, name, path in _used(run, tree):
        at: Literal["key", "value"] = "key" if kind == "terms" else "value"
        extension = there.names[kind].get(name)
        if extension is not None and (problem := extension.problem) is not None:
            reporter.error(problem.code, path, problem.message, problem.hint, at=at)
        elif name in there.shadowing[kind]:
            other = there.shadowing[kind][name]
            reporter.warning(
                "W551",
                path,
                f"the {WORDS[kind]} {name} is distilc's own; the one of {other.package} is not used",
                f"pip uninstall {other.distribution}, or have it registered under another name",
                at=at,
            )
        elif kind == "terms" and extension is not None and run.task not in (tasks := extension.facts["tasks"]):
            reporter.error(
                "E555",
                path,
                f"{extension.words} does not fit the task {run.task}",
                f"remove it; it is for {listed(tasks, 'and')}",
                at="key",
                because=[("task",)],
            )


def _used(run: Experiment, tree: Tree) -> Iterator[tuple[Kind, str, Trail]]:
    there = installed()
    for name in tree["loss"]:
        if name in run.training.loss.own or name in there.shadowing["terms"]:
            yield "terms", name, ("loss", name)
    for i, name in enumerate(run.evaluation.metrics):
        yield "metrics", name, ("evaluation", "metrics", i)
    for path, part in trainings(run):
        for i, name in enumerate(part.validation.metrics):
            yield "metrics", name, (*path, "validation", "metrics", i)
    family = run.teacher.architecture.family if run.teacher.architecture is not None else None
    if family is not None and family in there.shadowing["families"]:
        yield "families", family, ("teacher", "architecture", "family")
