"""The head of a model, over its vocabulary or over classes, and how many rows of logits are there at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .families import classifies, family_of, head, head_scale

CHUNK_BYTES = 128 << 20  # of one chunk's logits and what a term makes of them
_COPIES = 6 * 4  # float32 tensors of the logits' size that a divergence keeps for its gradient


class Head(nn.Module):
    """The projection of one model: weight (V, d), the bias that some families keep as a buffer, T5's scale. V: tokens
    of the vocabulary, or classes. What stands before it is the model's own and is called in `rows`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.linear: Any = head(model)
        self.scale = head_scale(model)
        bias = getattr(model, "final_logits_bias", None)
        self.bias: Tensor | None = None if classifies(model) else bias
        self._model = (model,)  # no child: its parameters are not the projection's

    def rows(self, states: Tensor, chosen: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """What the projection is given (N, d) of the last stack's states (B, S or T, d), at the chosen positions
        (B, S or T) bool; of a model that classifies, of the chosen examples (B,)."""
        (model,) = self._model
        family = family_of(model)
        if family.classifier is not None and classifies(model):
            return family.classifier.features(model, states, batch)[chosen]
        found = states[chosen]
        return found if family.head_features is None else family.head_features(model, found)

    @property
    def is_alone(self) -> bool:
        """Is the projection all there is of it?"""
        (model,) = self._model
        return family_of(model).head_features is None and not classifies(model)

    def forward(self, rows: Tensor) -> Tensor:
        """Logits (n, V) of `rows` (n, d)."""
        logits: Tensor = self.linear(rows * self.scale if self.scale != 1.0 else rows)
        return logits if self.bias is None else logits + self.bias.to(logits)


def chunks(num_rows: int, vocabulary: int) -> Sequence[tuple[int, int]]:
    """(first row, end row) of each chunk; no rows are one empty chunk, so that every rank does the same."""
    size = max(16, CHUNK_BYTES // (_COPIES * vocabulary))
    return [(start, min(start + size, num_rows)) for start in range(0, max(1, num_rows), size)]
