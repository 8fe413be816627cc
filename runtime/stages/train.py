"""The `train` stage: a model folder and token rows -> the best checkpoint."""

from __future__ import annotations

from typing import Any

from ..data.rows import Rows, references_of
from ..execution.context import Context
from ..metrics.words import require_seen
from ..plan.plan import Stage
from ..plan.settings import TrainSettings
from ..protocol import StageKind
from ..training.loop import train
from ..verify.quick import prove_quickly

SEEN_ROWS = 500  # that say in which script the references are


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """Train under the plan's engine; resumes from `context.scratch`. Raises `Failure` R357: what decides about stopping
    does not see the references."""
    _require_monitor(stage, context)
    return train(stage, context, prove_quickly)


def _require_monitor(stage: Stage, context: Context) -> None:
    settings: TrainSettings = stage.settings
    stopping, validation = settings.stopping, settings.validation
    deciding = {"stopping.monitor": stopping.monitor}
    deciding |= {f"stopping.retention.{metric}": metric for metric in stopping.retention or ()}
    if set(deciding.values()) == {"loss"}:
        return
    rows = Rows.open(context.inputs["data"], "validation")
    references = [references_of(rows.raw(i)) for i in range(min(SEEN_ROWS, rows.num_examples))]
    for place, metric in deciding.items():
        require_seen(metric, references, validation.scoring, f"`{stage.section}{place}`", f"{stage.section}{place}")


TRAIN = StageKind(run=run, parallel=True)
