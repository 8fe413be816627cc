"""The vocabulary projection of a model, and how many rows of logits are there at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .families import head, head_scale

CHUNK_BYTES = 128 << 20  # of one chunk's logits and what a term makes of them
_COPIES = 6 * 4  # float32 tensors of the logits' size that a divergence keeps for its gradient


class Head(nn.Module):
    """The projection of one model: weight (V, d), the bias that some families keep as a buffer, T5's scale."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.linear: Any = head(model)
        self.scale = head_scale(model)
        bias = getattr(model, "final_logits_bias", None)
        self.bias: Tensor | None = bias

    def forward(self, rows: Tensor) -> Tensor:
        """Logits (n, V) of decoder states (n, d)."""
        logits: Tensor = self.linear(rows * self.scale if self.scale != 1.0 else rows)
        return logits if self.bias is None else logits + self.bias.to(logits)


def chunks(num_rows: int, vocabulary: int) -> Sequence[tuple[int, int]]:
    """(first row, end row) of each chunk; no rows are one empty chunk, so that every rank does the same."""
    size = max(16, CHUNK_BYTES // (_COPIES * vocabulary))
    return [(start, min(start + size, num_rows)) for start in range(0, max(1, num_rows), size)]
