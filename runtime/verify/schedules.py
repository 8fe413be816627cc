"""What the numbers of the loss that change are at a step: a second time, from the plan and the steps of the course."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..plan.settings import Moment, ObjectiveSettings, Schedule
from ..training.step_schedule import StepSchedule


def values_at(schedules: Mapping[str, Schedule], step_schedule: StepSchedule, step: int) -> dict[str, float]:
    """Path in the loss -> value at the 1-based step."""
    found: dict[str, float] = {}
    for path, schedule in schedules.items():
        begin, end = span(schedule, step_schedule)
        first, last = schedule.initial, schedule.final
        if schedule.shape == "linear":
            found[path] = float(np.interp(step, [begin, end], [first, last]))
        elif schedule.shape == "cosine":
            angle = float(np.interp(step, [begin, end], [0.0, math.pi]))
            found[path] = last + (first - last) * (1 + math.cos(angle)) / 2
        else:
            found[path] = first if step <= begin else last
    return found


def telling_steps(schedules: Mapping[str, Schedule], step_schedule: StepSchedule) -> list[int]:
    """Steps at which an error shows: the middle of each schedule; of a step the last before it and the first after."""
    steps: set[int] = set()
    for schedule in schedules.values():
        begin, end = span(schedule, step_schedule)
        steps |= {begin, begin + 1} if schedule.shape == "step" else {(begin + end) // 2}
    return sorted({min(max(1, step), step_schedule.num_steps) for step in steps})


def span(schedule: Schedule, step_schedule: StepSchedule) -> tuple[int, int]:
    """The steps after which it begins and at which it is over."""
    begin = _step_of(schedule.begin, step_schedule)
    return begin, begin + 1 if schedule.end is None else _step_of(schedule.end, step_schedule)


def _step_of(moment: Moment, step_schedule: StepSchedule) -> int:
    """Epochs are counted by the steps as they come; beyond the end of the training no step comes."""
    if moment.steps is not None:
        return moment.steps
    if moment.ratio is not None:
        return round(moment.ratio * step_schedule.num_steps)
    wanted, step = float(moment.epochs or 0.0), 0
    while wanted > 0 and (steps := step_schedule.steps(after=step)):
        for planned in steps:
            if planned.epochs_done >= wanted - 1e-9:
                return planned.number
        step = steps[-1].number
    return 0 if wanted <= 0 else step_schedule.steps_in(wanted)


def settings_at(settings: ObjectiveSettings, values: Mapping[str, float]) -> ObjectiveSettings:
    """The settings with these values in them."""
    changed: dict[str, Any] = {}
    own = {name: dict(term) for name, term in settings.own.items()}
    for path, value in values.items():
        name, _, setting = path.partition(".")
        if name in own:
            own[name][setting] = value
        elif setting:
            changed[name] = replace(changed.get(name, getattr(settings, name)), **{setting: value})
        else:
            changed[name] = value
    return replace(settings, own=own, schedules={}, **changed)
