"""What is proved about: the training of a plan's student, with its artifacts and a few of its rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.rows import Ids, Rows
from ..execution.context import Context, Journal, Progress
from ..execution.store import Store
from ..extensions import TASKS
from ..failure import Failure
from ..models import head as model_head
from ..models.families import has_label
from ..models.load import load_model, load_tokenizer, model_folder
from ..objective import head
from ..objective.build import objective_of
from ..objective.objective import Objective, factors_of
from ..plan.plan import Plan, Stage
from ..plan.settings import StudentSettings, TrainSettings
from ..protocol import Items
from ..signals.read import CANDIDATES, Kept, with_signals
from ..training.step_schedule import StepSchedule

MANY, FEW = 8, 4  # rows; few for a large model
LARGE = 100_000_000  # parameters

Gradients = dict[str, Tensor]
ZERO_BY_NATURE = "k_proj.bias"  # a bias of the keys shifts every score of a query alike: softmax does not see it


class FewRows(Rows):
    """Some rows of a split, as a split of their own. `chosen`: their numbers in the whole."""

    def __init__(self, rows: Rows, ids: NDArray[np.int64]) -> None:
        self.folder, self.split = rows.folder, rows.split
        self._rows, self.chosen = rows, ids
        self.source_lengths = rows.source_lengths[ids]
        self.target_lengths = rows.target_lengths[ids]

    @property
    def whole(self) -> Rows:
        """The split that they are of."""
        return self._rows

    def source(self, i: int) -> Ids:
        return self._rows.source(int(self.chosen[i]))

    def target(self, i: int) -> Ids:
        return self._rows.target(int(self.chosen[i]))

    def token_types(self, i: int) -> NDArray[np.int8] | None:
        return self._rows.token_types(int(self.chosen[i]))

    def raw(self, i: int) -> dict[str, Any]:
        return self._rows.raw(int(self.chosen[i]))

    def source_rows(self) -> None:
        """They are data of their own."""
        return None


@dataclass(frozen=True)
class Subject:
    """`stage`: the training; `inputs`: role -> folder of what it needs; `origins`: role -> folder of what the
    student was made of (its teacher under `teacher`). `candidates`: the teacher's, of the rows, where the loss is of
    those."""

    plan: Plan
    stage: Stage
    student: Stage
    inputs: Mapping[str, Path]
    origins: Mapping[str, Path]
    rows: FewRows
    tokenizer: Any
    candidates: Kept | None = None

    @property
    def settings(self) -> TrainSettings:
        """Those of the stage, in fp32: what is proved is proved of the arithmetic, not of its rounding."""
        settings: TrainSettings = self.stage.settings
        return replace(settings, precision="fp32")

    @property
    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id)

    @property
    def student_settings(self) -> StudentSettings:
        settings: StudentSettings = self.student.settings
        return settings

    @property
    def step_schedule(self) -> StepSchedule:
        """The steps of the training itself, over all its rows."""
        return StepSchedule(self.settings, self.rows.whole)

    @property
    def has_teacher(self) -> bool:
        return "teacher" in self.inputs

    @property
    def looks_at_teacher(self) -> bool:
        """Does any term, be it at candidates that were kept?"""
        return self.has_teacher or CANDIDATES in self.stage.needs

    @property
    def teacher_folder(self) -> Path:
        """Of the teacher that a term looks at, there while the student is trained or not."""
        return self.inputs["teacher"] if self.has_teacher else self.origins["teacher"]

    def objective(self) -> Objective:
        """As the training stage makes it, in eval mode. Equal calls give equal ones."""
        with torch.random.fork_rng(devices=[]):
            return objective_of(self.settings, self.inputs, "cpu").eval()

    def teacher(self) -> Any:
        """The teacher of the artifact, loaded anew and whole."""
        return load_model(model_folder(self.teacher_folder), precision="fp32")

    def batch(self) -> dict[str, Tensor]:
        """All rows in one batch."""
        ids, task = np.arange(len(self.rows)), TASKS[self.settings.task]
        rows = task.drawn(self.rows, ids, self.tokenizer, self.settings, 0)
        return with_signals(task.collate(rows, ids, self.pad_id), self.candidates, ids)

    def context(self, rank: int, world: int) -> Context:
        """A process of a training of that many."""
        return Context(
            plan=self.plan,
            stage=self.stage,
            folder=Path(),
            scratch=Path(),
            inputs=self.inputs,
            rank=rank,
            world=world,
            device="cpu",
            journal=Journal(None),
            progress=Progress(None, self.stage.id),
        )


def trained_student(plan: Plan) -> tuple[list[Stage], Stage]:
    """(the trainings, one a phase; the student) of a plan. Raises `Failure` R310: it trains none."""
    phases = plan.phases
    student = plan.stage(phases[0].needs["model"])
    if student.kind != "student":
        raise Failure("R310", f"{plan.name} trains no student of a teacher: there is nothing to look at")
    if all(stage.settings.stopping.max_steps == 0 for stage in phases):
        raise Failure("R310", f"{plan.name} does not train its student (max_steps 0): there is nothing to look at")
    return phases, student


def subject_of(plan: Plan, store: Store, stage: Stage | None = None) -> Subject:
    """A training of the plan's student (None: the last phase), which begins with the student as it is made, whatever
    the phase. Raises `Failure` R310; R401: something that it needs is not in the store."""
    phases, student = trained_student(plan)
    stage = stage or phases[-1]
    needs = {role: id for role, id in stage.needs.items() if role in ("data", "teacher")} | {"model": student.id}
    inputs = {role: store.folder(plan.stage(id).key, stage=id) for role, id in needs.items()}
    origins = {role: store.folder(plan.stage(id).key, stage=id) for role, id in student.needs.items()}
    number = FEW if max(plan.teacher.parameters, plan.student.parameters) > LARGE else MANY
    rows = few_rows(Rows.open(inputs["data"], "train"), number)
    return Subject(plan, stage, student, inputs, origins, rows, load_tokenizer(model_folder(inputs["model"])))


def step_schedule_of_few(settings: TrainSettings, rows: Rows) -> StepSchedule:
    """The steps of a training of few rows. Its objective is the plan's as it stands: a schedule that is made for a
    whole training has no middle in it."""
    return StepSchedule(replace(settings, objective=replace(settings.objective, schedules={})), rows)


def few_rows(rows: Rows, number: int) -> FewRows:
    """Short rows of different lengths: evenly out of the shorter half of the first thousand."""
    lengths = (rows.source_lengths + rows.target_lengths)[:1000]
    short = np.argsort(lengths, kind="stable")[: max(number, len(lengths) // 2)]
    chosen = np.unique(np.linspace(0, len(short) - 1, min(number, len(short))).astype(np.int64))
    return FewRows(rows, short[chosen])


def counts_of(batch: Mapping[str, Tensor]) -> dict[Items, int]:
    """Items of a batch that is a whole step."""
    return {
        "label-tokens": int(has_label(batch["labels"]).sum()),
        "source-tokens": int(batch["attention_mask"].sum()),
        "examples": len(batch["labels"]),
    }


def loss_and_gradients(objective: Objective, batch: Mapping[str, Tensor]) -> tuple[float, Gradients]:
    """Of a batch that is a whole step."""
    share, _ = objective(batch, factors_of(counts_of(batch), world=1))
    return float(share.detach()), gradients_of(objective, share)


def gradients_of(objective: torch.nn.Module, loss: Tensor) -> Gradients:
    """Parameter -> gradient, for what is trained and has one."""
    named = {name: parameter for name, parameter in objective.named_parameters() if parameter.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: value for name, value in zip(named, found, strict=True) if value is not None}


def difference(one: Gradients, other: Gradients) -> tuple[float, str]:
    """(the largest difference of a gradient relative to its norm, the parameter's name). A gradient below a
    thousandth of the largest is held to that: below it there is only rounding. Key-projection biases are exempt. None
    is a gradient of exactly 0: that of a head that no term asks for."""
    names = [name for name in {**one, **other} if not name.endswith(ZERO_BY_NATURE)]
    missing = {name for name in names if (name in one) != (name in other)}
    if wrong := [name for name in names if name in missing and bool({**one, **other}[name].any())]:
        return float("inf"), wrong[0]
    names = [name for name in names if name not in missing]
    norms = {name: float(other[name].norm()) for name in names}
    floor = max([1e-30, *(norm * 1e-3 for norm in norms.values())])
    found = [(float((one[name] - other[name]).norm()) / max(norms[name], floor), name) for name in names]
    worst, name = max(found, key=lambda pair: (math.isnan(pair[0]), pair[0]), default=(0.0, ""))
    return worst, name.removeprefix("student.")


def relative(found: float, expected: float, near_zero: float) -> float:
    """The difference relative to the expected value, or to `near_zero` where that is larger."""
    return abs(found - expected) / max(abs(expected), near_zero)


@contextmanager
def small_chunks() -> Iterator[None]:
    """Within it the head works in the smallest chunks and blocks there are: a few rows would be one chunk otherwise."""
    before = model_head.CHUNK_BYTES, head.BLOCK_BYTES
    model_head.CHUNK_BYTES = head.BLOCK_BYTES = 0
    try:
        yield
    finally:
        model_head.CHUNK_BYTES, head.BLOCK_BYTES = before
