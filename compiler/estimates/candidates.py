"""Next tokens that stand for the teacher's distribution: how many there can be, and what keeping them takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..resolve.architecture import Architecture
from ..resolve.data_sizes import DataSize

ID_BYTES = PROBABILITY_BYTES = 4  # int32, float32
HEADER_BYTES = 128  # of an array's file


def common_vocabulary(teacher: Architecture, student: Architecture) -> int:
    """The tokens that both models have; what one of them has beyond is padding."""
    return min(teacher.num_logits, student.num_logits)


def token_bytes(kind: str, number: int) -> int:
    """Of one label token: ids and log-probabilities; of the most probable ones also that of all others."""
    return number * (ID_BYTES + PROBABILITY_BYTES) + (PROBABILITY_BYTES if kind == "top-k" else 0)


def exact_token_bytes(teacher: Architecture, precision: str) -> int:
    """Of one label token: the decoder's state, from which all logits are one product away."""
    return teacher.d_model * (4 if precision == "fp32" else 2)


def candidate_bytes(settings: Mapping[str, Any], size: DataSize) -> int:
    """Of all arrays of the stage's artifact, to the byte where the size of the data is exact."""
    candidates = settings["candidates"]
    tokens = round(size.rows * size.target_tokens)
    each = token_bytes(candidates["kind"], candidates["number"])
    return 2 * HEADER_BYTES + tokens * each + HEADER_BYTES + 8 * (size.rows + 1)
