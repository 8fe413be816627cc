"""How well masked tokens are predicted: the loss as a perplexity, the share of tokens that are found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..protocol import Metric, ScoreInputs
from .bootstrap import bootstrap_mean


def _perplexity(names: Sequence[str], inputs: ScoreInputs) -> dict[str, dict[str, Any]]:
    """exp of the loss. Pseudo: each token is predicted from both sides."""
    assert inputs.loss is not None
    try:
        value = math.exp(inputs.loss)
    except OverflowError:
        value = math.inf
    return {name: {"value": value} for name in names}


def _accuracy(names: Sequence[str], inputs: ScoreInputs) -> dict[str, dict[str, Any]]:
    right = [100.0 * (one == other) for one, other in zip(inputs.predictions, inputs.references, strict=True)]
    interval = bootstrap_mean(right)
    found = {"value": sum(right) / len(right), "low": interval.low, "high": interval.high, "tokens": len(right)}
    return {name: dict(found) for name in names}


PSEUDO_PERPLEXITY = Metric(score=_perplexity, needs="loss", higher_is_better=False)
MASKED_ACCURACY = Metric(score=_accuracy, needs="labels")
