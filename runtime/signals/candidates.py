"""Next tokens of a teacher that stand for its whole distribution, with the probabilities that it gives them.

Either its most probable tokens and one further outcome, the mass of all others; or draws with replacement. A draw
depends on the seed, the row and the position alone: not on the batch, the rank or the epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.head import Head, chunks
from ..plan.settings import KeptCandidates

IDS, LOG_PROBABILITIES = "ids", "log-probabilities"
FILES = {IDS: "candidates.npy", LOG_PROBABILITIES: "log_probabilities.npy"}


def candidates_of(
    states: Tensor, valid: Tensor, head: Head, settings: KeptCandidates, rows: Sequence[int]
) -> dict[str, Tensor]:
    """What is kept of a batch, (B, T, K) or (B, T, K + 1) each: states (B, T, d) of the teacher's decoder, valid (B, T)
    where a label is, `rows`: the numbers of the examples."""
    flat = states[valid]  # (N, d)
    drawn = None
    if settings.kind == "sampled":
        lengths = valid.sum(dim=1).tolist()
        uniform = [draws(settings, i, length) for i, length in zip(rows, lengths, strict=True)]
        drawn = torch.from_numpy(np.concatenate(uniform))  # (N, K)
    parts = [
        choose(head(flat[start:end]), settings, None if drawn is None else drawn[start:end])
        for start, end in chunks(len(flat), head.linear.weight.shape[0])
    ]
    kept: dict[str, Tensor] = {}
    for name, whole in zip((IDS, LOG_PROBABILITIES), map(torch.cat, zip(*parts, strict=True)), strict=True):
        kept[name] = whole.new_zeros((*valid.shape, whole.shape[-1]))
        kept[name][valid] = whole
    return kept


def choose(logits: Tensor, settings: KeptCandidates, uniform: Tensor | None) -> tuple[Tensor, Tensor]:
    """(ids (n, K) int32, log-probabilities) of a teacher's logits (n, V). Of the most probable ones, best first, the
    log-probabilities are (n, K + 1), the last of them that of all others; of draws (n, K). `uniform` (n, K), float64
    in [0, 1): what is drawn with."""
    log_p = distribution(logits, settings)  # (n, vocabulary)
    if settings.kind == "top-k":
        ids = log_p.topk(settings.number, dim=-1).indices
    else:
        assert uniform is not None
        cumulative = log_p.double().exp().cumsum(dim=-1)
        wanted = uniform.to(cumulative.device) * cumulative[:, -1:]
        ids = torch.searchsorted(cumulative, wanted, right=True).clamp(max=settings.vocabulary - 1)
    return ids.int(), probabilities_of(log_p, ids, settings)


def distribution(logits: Tensor, settings: KeptCandidates) -> Tensor:
    """The teacher's log-probabilities (..., vocabulary), in float32 at least, of logits (..., V)."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return torch.log_softmax(logits[..., : settings.vocabulary].to(dtype) / settings.temperature, dim=-1)


def probabilities_of(log_p: Tensor, ids: Tensor, settings: KeptCandidates) -> Tensor:
    """What a distribution (..., vocabulary) gives ids (..., K): as they are kept."""
    ids = ids.long()
    return with_rest(log_p, ids) if settings.kind == "top-k" else log_p.gather(-1, ids)


def with_rest(log_q: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities (..., K + 1) of ids (..., K), all different, and of all other tokens together, out of
    log_q (..., V)."""
    rest = log_q.scatter(-1, ids, -math.inf).logsumexp(dim=-1, keepdim=True)  # no 1 - sum: nothing cancels
    return torch.cat([log_q.gather(-1, ids), rest], dim=-1)


def draws(settings: KeptCandidates, row: int, num_tokens: int) -> NDArray[np.float64]:
    """What a row's tokens are drawn with, (num_tokens, K) in [0, 1): the row's own stream, in the order of its
    tokens."""
    assert settings.seed is not None
    stream = np.random.Generator(np.random.Philox(key=np.array([settings.seed, row], dtype=np.uint64)))
    return stream.random((num_tokens, settings.number))
