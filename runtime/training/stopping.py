"""When a training ends: the first rule that holds, and which validation was the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..metrics.score import METRICS
from ..plan.settings import StoppingSettings


def is_better(metric: str, new: float, old: float | None, min_delta: float = 0.0) -> bool:
    """Is the new score an improvement of more than `min_delta`? Any is over one that is no number."""
    if old is None or not math.isfinite(old):
        return True
    return new > old + min_delta if METRICS[metric].higher_is_better else new < old - min_delta


@dataclass
class Progress:
    """What stopping has seen so far; part of every checkpoint."""

    best: float | None = None
    best_step: int = 0
    best_metrics: dict[str, float] | None = None
    validated_step: int = 0  # the last one
    validations: int = 0
    without_improvement: int = 0
    seconds: float = 0.0

    def state(self) -> dict[str, Any]:
        return asdict(self)


class Stopping:
    """The rules of `stopping`; `reference` holds the teacher's scores where retention is asked for."""

    def __init__(self, settings: StoppingSettings, reference: Mapping[str, float], num_steps: int) -> None:
        self.settings = settings
        self.reference = reference
        self.num_steps = num_steps
        self.progress = Progress()

    def validated(self, metrics: Mapping[str, float], step: int) -> bool:
        """Take note of a validation. Returns whether it is the best so far."""
        progress, monitor = self.progress, self.settings.monitor
        progress.validations += 1
        progress.validated_step = step
        better = is_better(monitor, metrics[monitor], progress.best, self.settings.min_delta)
        if better:
            progress.best = metrics[monitor]
            progress.best_step = step
            progress.best_metrics = dict(metrics)
            progress.without_improvement = 0
        else:
            progress.without_improvement += 1
        return better

    def reason(self, step: int) -> str | None:
        """Why the training is over after this step, in words; None: it goes on."""
        settings, progress = self.settings, self.progress
        if self._retained():
            targets = ", ".join(
                f"{name} {percent:g} %" for name, percent in (settings.retention or {}).items()
            )
            return f"retention reached ({targets} of the teacher)"
        if settings.patience is not None and progress.without_improvement >= settings.patience:
            return f"no improvement of {settings.monitor} in {settings.patience} validations"
        if settings.max_hours is not None and progress.seconds >= settings.max_hours * 3600:
            return f"max_hours {settings.max_hours:g}"
        if step >= self.num_steps:
            return (
                f"max_steps {settings.max_steps}"
                if self.num_steps == settings.max_steps
                else (f"max_epochs {settings.max_epochs:g}")
            )
        return None

    def _retained(self) -> bool:
        """Did the best validation keep the asked share of the teacher in every named metric?"""
        metrics = self.progress.best_metrics
        if not self.settings.retention or metrics is None:
            return False
        return all(
            metrics[name] >= self.reference[name] * percent / 100
            if METRICS[name].higher_is_better
            else metrics[name] <= self.reference[name] * 100 / percent
            for name, percent in self.settings.retention.items()
        )
