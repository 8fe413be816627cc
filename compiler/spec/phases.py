"""The phases of a student's training (`training: [{...}, {...}]`), each as a run with one training.

Rules are written for one training. They hold for each phase: a phase is shown to them as a run whose sections are the
phase's, with a reporter that knows where these are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from ..diagnostics.diagnostic import Position, Reporter, Trail
from .experiment import Experiment

Tree = Mapping[str, Any]

OF_A_PHASE = ("loss", "batch", "stopping", "validation")  # sections that a phase may have in place of the spec's


class Phase(NamedTuple):
    """One phase as a run of its own. `stage`: the stage that trains it."""

    stage: str
    run: Experiment
    tree: Tree
    reporter: Reporter


def phases_of(run: Experiment, tree: Tree, reporter: Reporter) -> list[Phase]:
    """The phases of a run, in order; the run itself, where it has none. `tree`: its resolved tree."""
    if not isinstance(tree["training"], list):
        return [Phase("train", run, tree, reporter)]
    trees = phase_trees(tree)
    return [
        Phase(
            phase_stage(i, len(trees)),
            replace(run, training=training, earlier_phases=()),
            {**tree, **trees[i]},
            PhaseReporter(reporter, i),
        )
        for i, training in enumerate(run.phases)
    ]


def phase_stage(index: int, number: int) -> str:
    """The id of the stage that trains a phase: the model of the last one is the student."""
    return "train" if index == number - 1 else f"train-{index + 1}"


def phase_trees(tree: Tree) -> list[Tree]:
    """The sections of each training of the student, named as those of a spec with one training are."""
    if not isinstance(tree["training"], list):
        return [tree]
    return [
        {
            "precision": tree["precision"],
            **{key: phase.get(key, tree[key]) for key in OF_A_PHASE},
            "training": {key: value for key, value in phase.items() if key not in OF_A_PHASE},
        }
        for phase in tree["training"]
    ]


class PhaseReporter(Reporter):
    """Reports about one phase to the reporter of the run: paths of a spec with one training become those of the phase,
    where it has such a section."""

    def __init__(self, whole: Reporter, index: int) -> None:
        super().__init__(whole.places, whole.unreliable, whole.file)
        self._diagnostics = whole._diagnostics
        self._phase: Trail = ("training", index)

    def own(self, path: Trail) -> Trail:
        """The path in the spec of what would stand at `path` with one training."""
        if path[:1] == ("training",) and path[:2] != self._phase:
            return (*self._phase, *path[1:])
        if path and path[0] in OF_A_PHASE and super().written((*self._phase, path[0])):
            return (*self._phase, *path)
        return path

    def place(self, path: Trail, at: Literal["value", "key"] = "value") -> Position:
        return super().place(self.own(path), at)

    def is_reliable(self, path: Trail) -> bool:
        return super().is_reliable(self.own(path))

    def written(self, path: Trail) -> bool:
        return super().written(self.own(path))

    def typed(self, path: Trail) -> Trail:
        return super().typed(self.own(path))
