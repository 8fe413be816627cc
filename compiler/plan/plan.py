"""What a run is lowered to: its stages with their keys, and what they were made from. `emit.py` writes it as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from ..diagnostics.record import record
from ..estimates.placement import Execution
from ..estimates.workload import Teaching
from ..resolve.architecture import Architecture
from ..resolve.run import ResolvedRun
from ..resolve.site import Site
from ..spec.compiled import Run
from ..spec.experiment import Experiment
from ..spec.phases import phase_stage
from .keys import run_key


@record
class Stage:
    """One unit of work. `needs`: role -> key of the stage in that role. `model`: of a stage that publishes one;
    `teaching`: what a training asks of its teacher."""

    kind: str
    key: str
    settings: Mapping[str, Any]
    needs: Mapping[str, str]
    execution: Execution = field(default_factory=Execution)
    model: Architecture | None = None
    teaching: Teaching | None = None


class Stages(Mapping[str, Stage]):
    """The stages of a run by what they are called there, in order."""

    def __init__(self, stages: Mapping[str, Stage]) -> None:
        self._stages = stages
        self._ids: dict[str, str] = {}
        for id, stage in stages.items():
            self._ids.setdefault(stage.key, id)

    def __getitem__(self, id: str) -> Stage:
        return self._stages[id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stages)

    def __len__(self) -> int:
        return len(self._stages)

    def called(self, key: str) -> str:
        """The id of the stage with this key."""
        return self._ids[key]

    def needed(self, stage: Stage, role: str) -> Stage:
        """The stage that another one needs in a role."""
        return self._stages[self._ids[stage.needs[role]]]

    def ids(self, keys: Mapping[str, str]) -> dict[str, str]:
        """Role -> id, of role -> key. Of a damaged plan, what is in the place of an id."""
        return {role: self._ids.get(key, key) for role, key in keys.items()}


@record
class Plan:
    """One run, lowered. `named`: the runs of other specs whose stages are among its own, by what stands before the
    ids of these."""

    run: Run
    found: ResolvedRun
    site: Site
    stages: Stages
    named: Mapping[str, Run] = field(default_factory=dict)

    @property
    def experiment(self) -> Experiment:
        return self.run.experiment

    @property
    def name(self) -> str:
        return self.run.experiment.name

    @property
    def key(self) -> str:
        """Of the run: of its stages."""
        return run_key([(id, stage.kind, stage.key) for id, stage in self.stages.items()])

    @property
    def train(self) -> Stage:
        """The student's training; the last phase of it."""
        return self.stages["train"]

    @property
    def phases(self) -> list[Stage]:
        """The student's trainings, in order: one, where the spec has no phases."""
        number = len(self.experiment.phases)
        return [self.stages[phase_stage(i, number)] for i in range(number)]

    @property
    def stores(self) -> Sequence[Path]:
        """Where artifacts may be."""
        return self.site.workspace / "store", *self.site.shared_stores
