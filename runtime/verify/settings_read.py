"""(g) Which settings of a training are read: its parts are made, and a step, a stopping rule and a validation are
gone through, with settings that remember who looked at them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

import numpy as np
import torch

from ..models.load import load_tokenizer, model_folder
from ..objective.assembly import Active
from ..objective.build import objective_of
from ..objective.objective import Objective
from ..plan import Scoring, TrainSettings
from ..training.engine import optimizer_of
from ..training.step import Training, train_step
from ..training.step_schedule import StepSchedule
from ..training.stopping import Stopping
from ..training.validation import validate
from .proof import Proof, held
from .step import ONE_BATCH, Kept, LocalEngine
from .subject import FewRows, Subject, step_schedule_of_few

# Read elsewhere, before a training begins.
ELSEWHERE = {
    "task": "decides which plans run at all",
    "extensions": "held to the installed packages before anything starts",
    "trainable_parameters": "held to the model when the engine starts",
    "validation.generation.engine": "a validation writes with transformers alone",
    "validation.generation.named": "says how the engine was chosen",
}
_ROWS = 2


def prove_read(subject: Subject) -> Iterator[Proof]:
    """What is off (None, a term of weight 0) has nothing to be read."""
    seen: set[str] = set()
    settings = subject.settings
    _go_through(subject, recorded(settings, "", seen), seen)
    unread = [path for path in leaves(settings, "") if path not in seen and not _is_read_elsewhere(subject, path)]
    names = ", ".join(unread)
    yield held("g", "every setting of the training is read", f"nothing reads {names}" if unread else None)


def recorded(value: Any, path: str, seen: set[str]) -> Any:
    """The same settings; the dotted path of each field that is looked at goes into `seen`. Taking all fields at
    once (`asdict`) is no look."""
    if not is_dataclass(value):
        return value
    kind, prefix = type(value), f"{path}." if path else ""
    names = {field.name for field in fields(value)}

    def look(self: Any, name: str) -> Any:
        if name in names and sys._getframe(1).f_globals.get("__name__") != "dataclasses":
            seen.add(prefix + name)
        return object.__getattribute__(self, name)

    copy: Any = object.__new__(type(kind.__name__, (kind,), {"__getattribute__": look}))
    for name in names:
        object.__setattr__(copy, name, recorded(getattr(value, name), prefix + name, seen))
    return copy


def leaves(value: Any, path: str) -> list[str]:
    """The dotted paths of the values that are on."""
    prefix = f"{path}." if path else ""
    if is_dataclass(value):
        return [leaf for f in fields(value) for leaf in leaves(getattr(value, f.name), prefix + f.name)]
    if path.startswith("objective.own") and isinstance(value, Mapping):
        return [leaf for name, entry in value.items() for leaf in leaves(entry, prefix + str(name))]
    off = value is None or value == () or (isinstance(value, Mapping) and not value)
    return [] if off or (path.startswith("objective.") and value == 0.0) else [path]


def _is_read_elsewhere(subject: Subject, path: str) -> bool:
    settings, config = subject.settings, subject.stage.execution.deepspeed or {}
    if path in ELSEWHERE or path.split(".")[0] in ELSEWHERE:
        return True
    if path == "gradient_clipping":
        return bool(config.get("gradient_clipping") == settings.gradient_clipping)
    if path == "precision":
        asked = subject.stage.settings.precision
        return all(bool(config.get(name, {}).get("enabled")) == (name == asked) for name in ("bf16", "fp16"))
    if path.startswith("validation.generation."):  # of metrics that need texts
        return set(settings.validation.metrics) <= {"loss"}
    if path.startswith("validation.scoring."):  # as usual, where the plan does not say it
        name = path.rpartition(".")[2]
        return bool(getattr(settings.validation.scoring, name) == getattr(Scoring(), name))
    return path in ("optimizer.betas", "optimizer.eps") and settings.optimizer.name == "adafactor"  # it has none


def _go_through(subject: Subject, settings: TrainSettings, seen: set[str]) -> None:
    with torch.random.fork_rng(devices=[]):
        objective = objective_of(settings, subject.inputs, "cpu")
        _watch_terms(objective, settings, seen)
        parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        rows = FewRows(subject.rows, np.arange(min(_ROWS, len(subject.rows))))
        StepSchedule(settings, subject.rows.whole)  # the schedules of the loss are made for all rows
        step_schedule = step_schedule_of_few(settings, rows)
        teachers = dict.fromkeys(settings.stopping.retention or {}, 0.0)  # its scores
        training = Training(
            settings=settings,
            context=subject.context(0, 1),
            objective=objective,
            engine=_Engine(objective, optimizer_of(parameters, settings, on_cpu=False), updates=False),
            source=subject.inputs["model"],
            tokenizer=load_tokenizer(model_folder(subject.inputs["model"])),
            rows=rows,
            validation_rows=rows,
            step_schedule=step_schedule,
            stopping=Stopping(settings.stopping, teachers, step_schedule.num_steps),
            micro_batch_tokens=ONE_BATCH,
            signals=subject.candidates,
        )
        step = step_schedule.steps(after=0)[0]
        train_step(training, step, cast(Any, Kept()))
        step_schedule.learning_rate(1 << 40)  # past every warm-up
        training.stopping.validated(validate(training, step.number), step.number)
        training.stopping.progress.best_metrics = None  # so that the other rules are asked, too
        training.stopping.reason(0)


class _Engine(LocalEngine):
    """With what a validation asks for besides."""

    def eval(self) -> None:
        self.module.eval()

    def train(self) -> None:
        self.module.train()

    def zero_optimization_partition_weights(self) -> bool:
        return False


class _Watched(dict[str, Any]):
    """A term's settings that remember which of them were looked at."""

    def __init__(self, settings: Mapping[str, Any], path: str, seen: set[str]) -> None:
        super().__init__(settings)
        self._path, self._seen = path, seen

    def __getitem__(self, name: str) -> Any:
        self._seen.add(f"{self._path}.{name}")
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._seen.add(f"{self._path}.{name}")
        return super().get(name, default)


def _watch_terms(objective: Objective, settings: TrainSettings, seen: set[str]) -> None:
    def watched(active: Active) -> Active:
        names = (name for name in settings.objective.terms if active.name == name or active.name.startswith(f"{name}_"))
        name = next(names)
        path = f"objective.own.{name}" if name in settings.objective.own else f"objective.{name}"
        return replace(active, settings=_Watched(active.settings, path, seen))

    objective.terms = tuple(watched(active) for active in objective.terms)
    objective.logit_terms = [watched(active) for active in objective.logit_terms]
    objective.other_terms = [watched(active) for active in objective.other_terms]
