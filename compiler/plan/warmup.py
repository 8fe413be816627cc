"""How long a warm-up is that the spec leaves to us: 500 steps, as published, or a tenth of a training that is too short
for that. It is in the key, so it depends on what is in the key: never on what is in the store."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from ..estimates.effort import training_steps
from ..resolve.data_sizes import described_size, mixed_size
from ..resolve.objective import batch_settings
from ..spec.experiment import Training, Warmup

STEPS, SHARE = 500, 0.1


def warmup_of(
    training: Training, data: Mapping[str, Any], locations: Mapping[str, str], shares: Collection[float] = (1.0,)
) -> Warmup:
    """The warm-up of a training on the rows of a data stage with these settings. `shares`: of its targets, where they
    are a mix. What nobody knows the length of gets 500 steps; the runtime says so where that was too long."""
    if training.optimization.warmup is not None:
        return training.optimization.warmup
    steps = training.stopping.max_steps
    if not _short(steps) and training.stopping.max_epochs is not None:
        size = described_size(data, locations)
        if size is not None:
            run = {"batch": batch_settings(training.batch), "stopping": asdict(training.stopping)}
            steps = training_steps(run, mixed_size(size, shares))
    return Warmup(steps=None, ratio=SHARE) if _short(steps) else Warmup(steps=STEPS, ratio=None)


def _short(steps: int | None) -> bool:
    return steps is not None and steps * SHARE < STEPS
