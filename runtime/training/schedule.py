"""Numbers that change while a model is trained: the value of each at every optimizer step.

A value depends on the step's number and the length of the training alone, so it is the same on every rank and after a
resumption.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..failure import Failure
from ..plan.settings import Moment, Schedule


@dataclass(frozen=True)
class Change:
    """A schedule with its two moments in steps. `initial` at every step s <= `begin`, `final` at s >= `end`."""

    initial: float
    final: float
    shape: str
    begin: int
    end: int

    def at(self, step: int) -> float:
        """The value at the 1-based step: with t = (s - begin) / (end - begin), initial + (final - initial) f(t), where
        f(t) is t (linear) or (1 - cos(pi t)) / 2 (cosine)."""
        if step <= self.begin:
            return self.initial
        if step >= self.end:
            return self.final
        share = (step - self.begin) / (self.end - self.begin)
        if self.shape == "cosine":
            share = 0.5 * (1.0 - math.cos(math.pi * share))
        return self.initial + (self.final - self.initial) * share


def changes_of(
    schedules: Mapping[str, Schedule], num_steps: int, steps_in: Callable[[float], int], within: str = "loss"
) -> dict[str, Change]:
    """Schedules in steps. `num_steps`: the most there can be; `steps_in`: of so many epochs; `within`: where in the
    spec their paths begin.

    Raises `Failure` R350: one does not end after it begins, which is known only with the data.
    """

    def step_of(moment: Moment) -> int:
        if moment.steps is not None:
            return moment.steps
        if moment.epochs is not None:
            return steps_in(moment.epochs)
        return round((moment.ratio or 0.0) * num_steps)

    changes: dict[str, Change] = {}
    for path, schedule in schedules.items():
        begin = step_of(schedule.begin)
        end = begin + 1 if schedule.end is None else step_of(schedule.end)
        if end <= begin:
            raise Failure(
                "R350",
                f"the schedule of {within}.{path} begins after step {begin} and ends at step {end}; the "
                f"training has {num_steps} steps",
                "let it end later, or begin earlier",
                spec_path=f"{within}.{path}",
            )
        changes[path] = Change(schedule.initial, schedule.final, schedule.shape, begin, end)
    return changes
