"""Bytes on disk: checkpoints and pseudo-labels."""

from __future__ import annotations

from collections.abc import Collection

from ..resolve.architecture import Architecture
from ..resolve.data_sizes import CHARACTERS_PER_TOKEN, DataSize

_LABEL_RECORD_BYTES = 100  # id, score and quality of a label, and the JSON around them
_RESUMABLE_CHECKPOINTS = 2


def checkpoint_bytes(shape: Architecture, freeze: Collection[str]) -> int:
    """At the peak of a training: the best checkpoint in fp32 and two resumable ones (master weights and
    moments of what is trained)."""
    return 4 * shape.parameters + _RESUMABLE_CHECKPOINTS * 12 * shape.trainable(freeze)


def label_bytes(size: DataSize) -> int:
    """Pseudo-labels for every row of a training set, as long as its targets."""
    return round(size.rows * (size.target_tokens * CHARACTERS_PER_TOKEN + _LABEL_RECORD_BYTES))
