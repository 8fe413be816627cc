"""Drawing tokens so that the same seed gives the same texts, whatever the batches and the ranks.

Each draw of a source has its own stream of numbers, seeded by (seed, id of the example, number of the draw);
one number a step picks the token where the summed probabilities pass it (inverse transform sampling).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..plan.settings import SamplingSettings


def draw_processors(settings: SamplingSettings, drawn: Sequence[tuple[int, int]]) -> Any:
    """The logits processors of a search that takes the best token: temperature, top-k, top-p, and one that
    leaves the drawn token alone. `drawn`: (id of the example, number of the draw) of each row of the batch."""
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    processors = LogitsProcessorList()
    if settings.temperature != 1.0:
        processors.append(TemperatureLogitsWarper(settings.temperature))
    if settings.top_k is not None:
        processors.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1.0:
        processors.append(TopPLogitsWarper(settings.top_p))
    processors.append(_Draw(settings.seed, drawn))
    return processors


class _Draw:
    """Scores (B, V) -> the same, -inf for every token but the drawn one."""

    def __init__(self, seed: int, drawn: Sequence[tuple[int, int]]) -> None:
        self._streams = [np.random.default_rng([seed, id, number]) for id, number in drawn]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        numbers = np.fromiter((stream.random() for stream in self._streams), np.float64, len(self._streams))
        sums = scores.double().softmax(1).cumsum(1)  # (B, V)
        at = torch.from_numpy(numbers).to(scores.device)[:, None] * sums[:, -1:]
        tokens = torch.searchsorted(sums, at, right=True).clamp_(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens, 0.0)
