"""One optimizer step: a batch of the schedule cut into micro-batches, forward, backward, the update."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import torch

from ..data.batches import micro_batches
from ..data.rows import Rows
from ..execution.context import Context
from ..extensions import TASKS
from ..failure import Failure
from ..objective.objective import Objective, factors_of
from ..plan.settings import TrainSettings
from ..protocol import Method, Task
from ..signals.read import Kept, with_signals
from .balance import Balance
from .checkpoint import MARKER
from .engine import backward, set_learning_rate
from .step_schedule import Step, StepSchedule
from .stopping import Progress, Stopping

_OVERFLOW = re.compile(r"without overflow|loss scale already at minimum")  # torch, DeepSpeed


@dataclass
class Training:
    """What a training stage works with, from its start to its end."""

    settings: TrainSettings
    context: Context
    objective: Objective
    engine: Any
    source: Path  # the folder of the model that is trained
    tokenizer: Any
    rows: Rows
    validation_rows: Rows
    step_schedule: StepSchedule
    stopping: Stopping
    micro_batch_tokens: int
    signals: Kept | None
    balance: Balance = field(default_factory=lambda: Balance({}, {}, 0))  # of no terms: nothing is judged
    methods: tuple[Method, ...] = ()

    @property
    def task(self) -> Task:
        return TASKS[self.settings.task]

    def state(self) -> dict[str, Any]:
        """JSON: what a checkpoint keeps beside the tensors of the engine."""
        return {
            **self.stopping.progress.state(),
            "balance": self.balance.state(),
            "methods": [method.state() for method in self.methods],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.stopping.progress = Progress(**{one.name: state[one.name] for one in fields(Progress)})
        self.balance.load_state(state["balance"])
        for method, kept in zip(self.methods, state["methods"], strict=True):
            method.load_state(kept)

    @contextmanager
    def plain_student(self) -> Iterator[None]:
        """Within it the student is an ordinary model, whatever the methods do to it in a step."""
        with ExitStack() as stack:
            for method in self.methods:
                stack.enter_context(method.plain())
            yield


class Record(Protocol):
    """What is logged of each step: term -> its mean on this rank's share of the step, a scalar."""

    def add(self, step: Step, terms: Mapping[str, torch.Tensor]) -> None: ...


def train_step(training: Training, step: Step, record: Record) -> None:
    """One optimizer step: forward and backward over its micro-batches, then the update."""
    context, engine, task = training.context, training.engine, training.task
    rows = task.drawn(training.rows, step.ids, training.tokenizer, training.settings, step.epoch)
    pad_id = training.tokenizer.pad_token_id
    parts = micro_batches(
        step.ids, rows.source_lengths, rows.target_lengths, context.world, training.micro_batch_tokens
    )
    counts = task.num_items(rows, step.ids)  # means are over the whole step
    factors = factors_of(counts, context.world)
    # Dropout draws from the step's own stream, so that a resumed step draws what it would have drawn.
    torch.manual_seed((training.settings.seed * 1_000_003 + step.number) * 4_093 + context.rank)
    set_learning_rate(engine, training.step_schedule.learning_rate(step.number))
    training.objective.go_to(training.step_schedule.scheduled(step.number))
    for method in training.methods:
        method.before_step(step.number)
    sums: dict[str, torch.Tensor] = {}
    for index, micro_step in enumerate(parts):
        ids = micro_step[context.rank]
        collated = with_signals(task.collate(rows, ids, pad_id), training.signals, ids)
        batch = {name: tensor.to(engine.device, non_blocking=True) for name, tensor in collated.items()}
        share, terms = engine(batch, factors)
        backward(engine, share, last=index == len(parts) - 1)
        for name, term in terms.items():
            sums[name] = sums.get(name, 0) + term
    _update(training, step)
    items = training.objective.items()
    record.add(step, {name: value / counts[items[name]] for name, value in sums.items()})


def _update(training: Training, step: Step) -> None:
    """The optimizer's part of a step. Raises `Failure` R301: it multiplies by a number that float32 has no room for, or
    fp16 gradients overflow whatever they are scaled by."""
    try:
        training.engine.step()
    except Exception as error:
        if not _OVERFLOW.search(str(error)):
            raise
        raise diverged(training, f"the optimizer cannot make step {step.number}: {error}") from error


def diverged(training: Training, what: str) -> Failure:
    """R301, with what there is to go back to."""
    path = f"{training.context.stage.optimization}.learning_rate"
    kept = (training.context.scratch / MARKER).is_file()
    return Failure(
        "R301",
        f"{what}; {'the last checkpoint is kept' if kept else 'there was no checkpoint yet'}",
        f"lower {path}, lengthen the warm-up, or use fp32",
        spec_path=path,
    )
