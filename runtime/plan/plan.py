"""A plan: one run, as stages in the order in which they are run, and what stands beside them.

Every stage has `settings` (in its key: they change the result) and `execution` (not in its key: where and how it
runs), whose `locations` say where on this machine the content of a fingerprint is found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .settings import LayerMaps

TRAINING = "train"  # the stage that trains the run's student; in phases, the last one
_PHASE = re.compile(r"train-([1-9][0-9]*)")  # the stage of an earlier phase
TEACHER_TRAINING = "teacher-train"  # the stage that trains the run's teacher; a named run's is RUN/teacher-train


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a stage runs here. `micro_batch_tokens`: padded source + target tokens that one device takes at
    a time; `save_minutes`: how often a training checkpoint is written (0: after every step);
    `deepspeed`: the engine's config (train stages); `teacher_deepspeed`: of a teacher whose weights are shared out,
    None: it is whole on every device. `checkpointing`: activations of the trained layers are computed again in the
    backward pass. `signals`: side -> id of the earlier stage whose states are
    read instead of computed; they are equal, so they are in no key."""

    locations: Mapping[str, str]
    micro_batch_tokens: int | None
    save_minutes: float | None
    deepspeed: Mapping[str, Any] | None
    teacher_deepspeed: Mapping[str, Any] | None = None
    checkpointing: bool = False
    signals: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One unit of work. `needs`: role -> id of an earlier stage of the plan."""

    id: str
    kind: str
    key: str
    needs: Mapping[str, str]
    settings: Any
    execution: Execution

    @property
    def reads(self) -> dict[str, str]:
        """All that it reads: `needs`, and the signals as roles `signals.SIDE`."""
        return {**self.needs, **{f"signals.{side}": id for side, id in self.execution.signals.items()}}

    @property
    def section(self) -> str:
        """What stands in the spec before `loss`, `stopping` and `validation` of what this stage trains:
        `teacher.train.`, `training[0].` of a phase, or nothing for the student."""
        name = self.id.rpartition("/")[2]
        before = _PHASE.fullmatch(self.needs.get("model", "").rpartition("/")[2])
        if name == TEACHER_TRAINING:
            return "teacher.train."
        if phase := _PHASE.fullmatch(name):
            return f"training[{int(phase[1]) - 1}]."
        return f"training[{before[1]}]." if before and name == TRAINING else ""

    @property
    def optimization(self) -> str:
        """Where the spec says the learning rate and the optimizer of what this stage trains."""
        return self.section.removesuffix(".") if self.section.startswith("training[") else f"{self.section}training"


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    model: str
    family: str
    parameters: int
    trainable_parameters: int
    encoder_layers: int
    decoder_layers: int

    @property
    def shape(self) -> str:
        """`6-3`: the layers of its stacks, from the input up."""
        return "-".join(str(count) for count in (self.encoder_layers, self.decoder_layers) if count)


@dataclass(frozen=True, kw_only=True)
class TrackingSite:
    """`uri` None: MLFLOW_TRACKING_URI, else SQLite in the workspace. Without user, password and tokens: those are in
    MLFLOW_TRACKING_URI, where it is the same address."""

    uri: str | None


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where the plan runs. `device`: cpu or cuda. `hostfile` None: this machine alone. `scratch`: a folder for
    signals; None: they are in the store like all else."""

    workspace: str
    shared_stores: tuple[str, ...]
    offline: bool
    device: Literal["cpu", "cuda"]
    nodes: int
    per_node: int
    hostfile: str | None
    tracking: TrackingSite
    scratch: str | None = None


@dataclass(frozen=True, kw_only=True)
class Tracking:
    experiment: str
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Published scores; `within`: the largest difference that counts as reproduced."""

    scores: Mapping[str, float]
    within: float | None
    source: str | None


@dataclass(frozen=True, kw_only=True)
class NamedRun:
    """A run of another spec that makes a model of this one, for the record."""

    file: str
    run: str
    spec: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class BaselineFacts:
    """What is known of a system of others and is no score of it. None: not known."""

    million_parameters: float | None
    examples_per_second: float | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run, lowered. `key` names the run (a hash of its stage keys); `places`: spec path -> [file,
    line, column], so that the runtime can point into the spec; `spec`: the resolved spec, for the record;
    `named`: the runs of other specs whose stages are here, by what stands before the ids of these; `baselines`:
    the systems of others in the result table, by name; `digest`: of what stands beside the stages (`keys.FACTS`) as it
    was compiled."""

    format: int
    name: str
    variant: str | None
    task: str
    seed: int
    key: str
    teacher: ModelSummary
    student: ModelSummary
    copy: LayerMaps
    phi: LayerMaps
    metrics: tuple[str, ...]
    expect: Mapping[str, Expectation]
    stages: tuple[Stage, ...]
    site: Site
    tracking: Tracking
    spec: Mapping[str, Any]
    places: Mapping[str, tuple[str, int, int]]
    named: Mapping[str, NamedRun] = field(default_factory=dict)
    baselines: Mapping[str, BaselineFacts] = field(default_factory=dict)
    digest: str = ""

    def stage(self, id: str) -> Stage:
        """The stage of that id. KeyError: there is none."""
        for stage in self.stages:
            if stage.id == id:
                return stage
        raise KeyError(id)

    @property
    def phases(self) -> list[Stage]:
        """The trainings of the student, in order: one, where the spec has no phases."""
        found = [self.stage(TRAINING)]
        while (before := self.stage(found[0].needs["model"])).kind == "train" and _PHASE.fullmatch(before.id):
            found.insert(0, before)
        return found

    def place(self, path: str | None) -> tuple[str, int, int] | None:
        """Where in the spec a path stands, or the nearest thing above it: file, line, column."""
        while path:
            if path in self.places:
                return self.places[path]
            path = path.rpartition(".")[0]
        return None


def is_beside_plan(name: str) -> bool:
    """Is this a file that `compile` writes beside plan.json?"""
    return re.fullmatch(r"lock\.yaml|launch\.sh|deepspeed\..+\.json", name) is not None
