"""The teacher at work: frozen, in eval mode, without gradients, outside of what is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..models.families import family_of, stack_of
from ..models.forward import decode, encode, equal_parts
from ..models.head import Head
from ..models.load import DTYPES, Precision, load_model
from ..protocol import Stack
from .sharding import shard, whole

Result = TypeVar("Result")


class Teacher:
    """No `nn.Module`, on purpose: as a child of the trained module it would enter checkpoints, be cast and
    partitioned with it, and be switched to train mode by its `train()` (domain facts 4.3).

    `shares_encoder`: the student's encoder is frozen and equal to this one's, so its states serve both.
    """

    def __init__(self, model: Any, shares_encoder: bool) -> None:
        self.model = model.eval().requires_grad_(False)
        self.shares_encoder = shares_encoder
        self.head = Head(model)
        self._engine: Any = None  # of a sharded one
        if shares_encoder:
            self.rest("encoder")

    def rest(self, *stacks: Stack) -> None:
        """Stacks that are never run from now on: the memory of their layers is the student's to use."""
        for stack in stacks:
            setattr(stack_of(self.model, stack), family_of(self.model).layer_list, nn.ModuleList())

    def to(self, device: Any) -> Teacher:
        """Move it to a device."""
        self.model.to(device)
        return self

    def shard(self, config: Mapping[str, Any]) -> None:
        """From now on each rank keeps its share of the weights. `config`: DeepSpeed's, of ZeRO stage 3."""
        self._engine = shard(self.model, config)

    @torch.no_grad()
    def run(self, work: Callable[[], Result]) -> Result:
        """What `work` returns, which encodes and decodes: one pass through the teacher. A sharded one gathers its
        modules one after the other, on all ranks together: each must make the same passes."""
        return work() if self._engine is None else self._engine(work)

    def whole_head(self) -> AbstractContextManager[None]:
        """Within it `logits` can be asked for, on each rank as often as it likes."""
        return nullcontext() if self._engine is None else whole(self.head)

    def destroy(self) -> None:
        """Let go of what a sharded one holds."""
        if self._engine is not None:
            self._engine.destroy()

    @torch.no_grad()
    def encode(self, input_ids: Tensor, attention_mask: Tensor, attentions: Any = None) -> Tensor:
        """Its own encoder's states (B, S, d). Within `run`."""
        return encode(self.model, input_ids, attention_mask, attentions)

    @torch.no_grad()
    def decode(
        self, decoder_input_ids: Tensor, encoder_states: Tensor, attention_mask: Tensor, attentions: Any = None
    ) -> Tensor:
        """Its decoder's states (B, T, d). Within `run`."""
        kind = next(self.model.parameters()).dtype
        return decode(self.model, decoder_input_ids, encoder_states.to(kind), attention_mask, attentions)

    @torch.no_grad()
    def logits(self, rows: Tensor) -> Tensor:
        """Logits (n, V) of its decoder's states (n, d). Within `whole_head`."""
        logits: Tensor = self.head(rows)
        return logits


def load_teacher(folder: Path, student: Any, freeze: tuple[str, ...], precision: Precision) -> Teacher:
    """The teacher of a folder, for a student whose weights are the ones that training starts from."""
    model = load_model(folder, precision="fp32")
    # Compared before it is cast: the frozen encoder never changes, so neither does the answer.
    shares = "encoder" in freeze and equal_parts(student, model, "encoder")
    return Teacher(model.to(DTYPES[precision]), shares)
