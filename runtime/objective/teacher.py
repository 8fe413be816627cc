"""The teacher at work: frozen, in eval mode, without gradients, outside of what is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..models.families import family_of, stack_of
from ..models.forward import decode, encode, equal_parts
from ..models.load import DTYPES, Precision, load_model
from .head import Head


class Teacher:
    """No `nn.Module`, on purpose: as a child of the trained module it would enter checkpoints, be cast and
    partitioned with it, and be switched to train mode by its `train()` (domain facts 4.3).

    `shares_encoder`: the student's encoder is frozen and equal to this one's, so its states serve both.
    """

    def __init__(self, model: Any, shares_encoder: bool) -> None:
        self.model = model.eval().requires_grad_(False)
        self.shares_encoder = shares_encoder
        self.head = Head(model)
        if shares_encoder:
            # Never run here: its memory is the student's to use.
            setattr(stack_of(model, "encoder"), family_of(model).layer_list, nn.ModuleList())

    def to(self, device: Any) -> Teacher:
        """Move it to a device."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def encode(self, input_ids: Tensor, attention_mask: Tensor, attentions: Any = None) -> Tensor:
        """Its own encoder's states (B, S, d)."""
        return encode(self.model, input_ids, attention_mask, attentions)

    @torch.no_grad()
    def decode(
        self, decoder_input_ids: Tensor, encoder_states: Tensor, attention_mask: Tensor, attentions: Any = None
    ) -> Tensor:
        """Its decoder's states (B, T, d)."""
        kind = next(self.model.parameters()).dtype
        return decode(self.model, decoder_input_ids, encoder_states.to(kind), attention_mask, attentions)

    @torch.no_grad()
    def logits(self, rows: Tensor) -> Tensor:
        """Logits (n, V) of its decoder's states (n, d)."""
        logits: Tensor = self.head(rows)
        return logits


def load_teacher(folder: Path, student: Any, freeze: tuple[str, ...], precision: Precision) -> Teacher:
    """The teacher of a folder, for a student whose weights are the ones that training starts from."""
    model = load_model(folder, precision="fp32")
    # Compared before it is cast: the frozen encoder never changes, so neither does the answer.
    shares = "encoder" in freeze and equal_parts(student, model, "encoder")
    return Teacher(model.to(DTYPES[precision]), shares)
