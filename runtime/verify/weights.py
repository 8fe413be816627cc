"""Weights that no training gave: what is computed with them proves nothing."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..failure import Failure

ABSURD_LOSS = 100.0  # times that of a model that guesses
ABSURD_WEIGHT = 1e6  # fp16 ends at 65,504, and trained weights long before


def absurd_weights(objective: Any, batch: dict[str, Tensor]) -> Failure | None:
    """The diagnosis of a student whose weights, before its first step, are beyond those of any training, or whose loss
    is far beyond that of a guess: R319; None: it is not so. `objective`: in eval mode, on the device of `batch`."""
    largest = max(float(parameter.detach().abs().max()) for parameter in objective.student.parameters())
    loss, tokens = objective.label_loss(batch).tolist()
    mean, guess = loss / max(1.0, tokens), math.log(objective.head_terms.student.linear.out_features)
    if largest <= ABSURD_WEIGHT and math.isfinite(mean) and mean <= ABSURD_LOSS * guess:
        return None
    return Failure(
        "R319",
        f"before its first step the student's weights reach {largest:.3g}, and its loss is {mean:.3g} nats a token, "
        f"where a guess has {guess:.2f}: it is made of weights that are no trained model's",
        "were the weights of the model scaled, quantized or converted? nothing was trained; take another checkpoint",
        spec_path="teacher",
    )
