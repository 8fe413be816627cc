"""The loss as a metric: the mean cross-entropy of the labels, in nats per label token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..protocol import Metric, ScoreInputs


def _score(names: Sequence[str], inputs: ScoreInputs) -> dict[str, dict[str, Any]]:
    return {name: {"value": inputs.loss} for name in names}


LOSS = Metric(score=_score, needs="loss", higher_is_better=False)
