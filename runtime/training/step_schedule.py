"""The steps of a training: which examples each optimizer step sees, how many steps there are, when to
validate, which learning rate, which weights of the loss where they change. All of it known before the first step;
nothing depends on ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.batches import epoch_steps
from ..data.rows import Rows
from ..plan.settings import TrainSettings
from .schedule import changes_of

Ids = NDArray[np.int64]

ENDLESS = 1 << 40  # steps


@dataclass(frozen=True)
class Step:
    """One optimizer step: its 1-based number, its example ids, the epochs done after it, and whether a
    validation follows it."""

    number: int
    epoch: int
    ids: Ids
    epochs_done: float
    validate: bool


class StepSchedule:
    """All steps of a training, epoch by epoch. `num_steps` is the most there can be; `ENDLESS` where time, patience or
    retention alone end it: a falling schedule then stays at its peak."""

    def __init__(self, settings: TrainSettings, rows: Rows, section: str = "") -> None:
        """`section`: of the spec, `Stage.section`."""
        self.settings = settings
        self._rows = rows
        self._epochs: dict[int, list[Ids]] = {}
        self.num_steps = self._count()
        # Of a training without a step nothing changes.
        schedules = settings.objective.schedules if self.num_steps else {}
        self.changes = changes_of(schedules, self.num_steps, self.steps_in, f"{section}loss")

    def steps(self, after: int) -> list[Step]:
        """The steps of the epoch in which step `after` + 1 lies, from there on; [] at the end."""
        first = 0
        epoch = 0
        while after < self.num_steps:
            ids = self._epoch(epoch)
            if first + len(ids) > after:
                return [
                    self._step(epoch, index, first, ids)
                    for index in range(after - first, len(ids))
                    if first + index < self.num_steps
                ]
            first += len(ids)
            epoch += 1
        return []

    def learning_rate(self, step: int) -> float:
        """Of the 1-based step: linear warm-up from 0 to the peak, then the schedule; the last step of a
        falling schedule still learns (the rate reaches 0 just after it)."""
        settings = self.settings
        warmup = self.warmup_steps
        if step <= warmup:
            return settings.learning_rate * step / (warmup + 1)
        share = (step - 1 - warmup) / max(1, self.num_steps - warmup)
        factor = {
            "constant": 1.0,
            "linear": 1.0 - share,
            "cosine": 0.5 * (1.0 + math.cos(math.pi * share)),
            "inverse-sqrt": math.sqrt(max(1, warmup) / max(1, step - 1, warmup)),
        }[settings.schedule]
        return settings.learning_rate * factor

    @property
    def warmup_steps(self) -> int:
        if self.settings.warmup_steps is not None:
            return self.settings.warmup_steps
        return round((self.settings.warmup_ratio or 0.0) * self.num_steps)

    def scheduled(self, step: int) -> dict[str, float]:
        """What changes, by its path in the loss ("logits.weight", "cosine"), as it is at the 1-based step."""
        return {path: change.at(step) for path, change in self.changes.items()}

    def _step(self, epoch: int, index: int, first: int, ids: list[Ids]) -> Step:
        number = first + index + 1
        before, done = epoch + index / len(ids), epoch + (index + 1) / len(ids)
        validation = self.settings.validation
        if validation.every_steps is not None:
            due = number % validation.every_steps == 0
        else:
            every = validation.every_epochs or 1.0
            due = math.floor(done / every + 1e-9) > math.floor(before / every + 1e-9)
        return Step(number, epoch, ids[index], done, due or number == self.num_steps)

    def _count(self) -> int:
        """Steps until max_epochs (a part of an epoch counts by its steps) or max_steps, whichever is less."""
        stopping = self.settings.stopping
        most = ENDLESS if stopping.max_steps is None else stopping.max_steps
        if stopping.max_epochs is None:
            return most
        return int(min(self.steps_in(stopping.max_epochs, most), most))

    def steps_in(self, epochs: float, enough: float = math.inf) -> int:
        """How many steps so many epochs have; a part of an epoch counts by its steps. From `enough` on it is not
        looked further."""
        steps = 0
        for epoch in range(math.ceil(epochs - 1e-9)):
            share = min(1.0, epochs - epoch)
            steps += math.ceil(share * len(self._epoch(epoch)) - 1e-9)
            if steps >= enough:
                break
        return steps

    def _epoch(self, epoch: int) -> list[Ids]:
        if epoch not in self._epochs:
            batch, rows = self.settings.batch, self._rows
            self._epochs[epoch] = epoch_steps(
                rows.source_lengths, rows.target_lengths, batch.unit, batch.size, self.settings.seed, epoch
            )
        return self._epochs[epoch]
