"""The teacher's candidates for the rows that a plan is proved on: chosen a second time, from plain logits, or read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..plan.settings import KeptCandidates
from ..signals.candidates import IDS, LOG_PROBABILITIES, draws
from ..signals.read import CANDIDATES, Kept, signal
from .reference import NOT_PREDICTED, Plain

if TYPE_CHECKING:
    from .subject import Subject

NAMES = (signal(CANDIDATES, IDS), signal(CANDIDATES, LOG_PROBABILITIES))


@dataclass(frozen=True)
class CandidatesOfRows:
    """`rows[i]`: what a batch gets of row i, each (T, K) or (T, K + 1)."""

    rows: Sequence[tuple[Tensor, Tensor]]

    def batch(self, ids: NDArray[Any], source_tokens: int, target_tokens: int) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for k, name in enumerate(NAMES):
            like = self.rows[0][k]
            padded = like.new_zeros((max(1, len(ids)), target_tokens, like.shape[-1]))  # (B, T, K)
            for b, i in enumerate(ids):
                part = self.rows[int(i)][k]
                padded[b, : len(part)] = part
            found[name] = padded
        return found


def with_computed(subject: Subject) -> Subject:
    """The subject with candidates of plain logits of the teacher, in float64, where its loss is of candidates."""
    if CANDIDATES not in subject.stage.needs:
        return subject
    settings: KeptCandidates = subject.plan.stage(subject.stage.needs[CANDIDATES]).settings.candidates
    batch = subject.batch()
    valid = batch["labels"] != NOT_PREDICTED  # (B, T)
    with torch.no_grad():
        logits = Plain(subject.teacher().double(), batch, attentions=False).logits
    found = [_chosen(logits[b][valid[b]], settings, b) for b in range(len(valid))]
    return replace(subject, candidates=CandidatesOfRows(found))


def with_kept(subject: Subject, signals: Kept | None) -> Subject:
    """The subject with those that the training will read."""
    if signals is None or CANDIDATES not in subject.stage.needs:
        return subject
    lengths = subject.rows.target_lengths
    whole = signals.batch(subject.rows.chosen, int(subject.rows.source_lengths.max()), int(lengths.max()))
    rows = [
        (whole[NAMES[0]][b, :length], whole[NAMES[1]][b, :length]) for b, length in enumerate(lengths.tolist())
    ]
    return replace(subject, candidates=CandidatesOfRows(rows))


def _chosen(logits: Tensor, settings: KeptCandidates, row: int) -> tuple[Tensor, Tensor]:
    """(ids (T, K), log-probabilities) of logits (T, V): of the most probable, and the sum of the others; of draws."""
    scaled = logits[:, : settings.vocabulary] / settings.temperature
    p = (scaled - scaled.max(-1, keepdim=True).values).exp()
    p = p / p.sum(-1, keepdim=True)
    number = settings.number
    if settings.kind == "top-k":
        values, ids = p.sort(dim=-1, descending=True)
        kept = torch.cat([values[:, :number], values[:, number:].sum(-1, keepdim=True)], dim=-1)
        return ids[:, :number], kept.log()
    pairs = zip(p.cumsum(-1).numpy(), draws(settings, row, len(p)), strict=True)
    drawn = np.stack([np.searchsorted(cumulative, uniform, side="right") for cumulative, uniform in pairs])
    ids = torch.from_numpy(drawn).clamp(max=p.shape[-1] - 1)
    return ids, p.gather(-1, ids).log()
