"""Scores of sequences that a model of transformers has written: one more pass of the decoder.

The search itself would tell the scores only with those of every token of the vocabulary at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..models.families import stacks
from ..models.forward import run_stack
from ..models.head import Head
from .engine import Source
from .search import end_token, limit_of

MAX_LOGITS = 1 << 26  # rows x tokens x vocabulary that are there at once


@torch.inference_mode()
def sequence_scores(
    model: Any, sources: Sequence[Source], sequences: torch.Tensor, config: Any, length_penalty: float, pad_id: int
) -> list[float]:
    """The score (`engine.py`) of each sequence, in nats. `sequences` (B * N, 1 + T) are ids, the decoder's start
    first; N of them in a row belong to one of the B sources."""
    per_source = len(sequences) // len(sources)
    inputs = padded(sources, pad_id, sequences.device)
    *below_stacks, last = stacks(model)
    below: torch.Tensor | None = None
    for stack in below_stacks:
        below = run_stack(model, stack, inputs, below)
    assert below is not None
    below = below.repeat_interleave(per_source, 0)  # (B * N, S, d)
    mask = inputs["attention_mask"].repeat_interleave(per_source, 0)
    head = Head(model)
    counted, lengths = _counted(sequences[:, 1:], config)
    num_rows = max(1, MAX_LOGITS // (sequences.shape[1] * head.linear.weight.shape[0]))
    scores: list[float] = []
    for start in range(0, len(sequences), num_rows):
        rows = slice(start, start + num_rows)
        read = {"decoder_input_ids": sequences[rows, :-1], "attention_mask": mask[rows]}
        logits = head(run_stack(model, last, read, below[rows])).float()  # (rows, T, V)
        taken = logits.gather(2, sequences[rows, 1:, None])[..., 0] - logits.logsumexp(2)  # (rows, T)
        totals = taken.double().masked_fill(~counted[rows], 0.0).sum(1)
        scores += (totals / lengths[rows].double() ** length_penalty).tolist()
    return scores


def _counted(taken: torch.Tensor, config: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of the tokens (B, T) count in the sum, and how many in the length (B,): the end token is the last
    one; a forced token counts in the length alone."""
    ends = taken == end_token(config)
    inside = ends.cumsum(1) - ends.long() == 0
    counted = inside.clone()
    if config.forced_bos_token_id is not None:
        counted[:, 0] = False
    limit = limit_of(config)
    if config.forced_eos_token_id is not None and taken.shape[1] >= limit:
        counted[:, limit - 1] = False
    return counted, inside.sum(1)


def padded(sources: Sequence[Source], pad_id: int, device: str | torch.device) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` (B, S), padded on the right."""
    longest = max(len(source) for source in sources)
    input_ids = np.full((len(sources), longest), pad_id, np.int64)
    mask = np.zeros((len(sources), longest), np.int64)
    for row, source in enumerate(sources):
        input_ids[row, : len(source)] = source
        mask[row, : len(source)] = 1
    return {
        "input_ids": torch.from_numpy(input_ids).to(device),
        "attention_mask": torch.from_numpy(mask).to(device),
    }
