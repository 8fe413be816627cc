"""The `train` stage: a model folder and token rows -> the best checkpoint."""

from __future__ import annotations

from typing import Any

from ..context import Context
from ..plan import Stage
from ..training.loop import train

PARALLEL = True


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """Train under the plan's engine; resumes from `context.scratch`."""
    return train(stage, context)
