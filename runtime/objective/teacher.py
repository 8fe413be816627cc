"""The teacher at work: frozen, in eval mode, without gradients, outside of what is trained."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..models.families import family_of, stack_of, stacks
from ..models.forward import Activations, equal_parts, run_stack
from ..models.head import Head
from ..models.load import DTYPES, Precision, load_model
from ..protocol import Stack
from .sharding import shard, whole

Result = TypeVar("Result")


class Teacher:
    """No `nn.Module`, on purpose: as a child of the trained module it would enter checkpoints, be cast and
    partitioned with it, and be switched to train mode by its `train()` (domain facts 4.3).

    `shared`: its stacks that are not run, from the input up: the student's are frozen and equal, so that their states
    serve both.
    """

    def __init__(self, model: Any, shared: tuple[Stack, ...] = ()) -> None:
        self.model = model.eval().requires_grad_(False)
        self.shared = shared
        self.head = Head(model)
        self._engine: Any = None  # of a sharded one
        self.drop_layers(*self.shared)

    def drop_layers(self, *unused: Stack) -> None:
        """Of stacks that are never run from now on: the memory of their layers is the student's to use."""
        for stack in unused:
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
    def run_stack(
        self, stack: Stack, batch: Mapping[str, Tensor], below: Tensor | None, attentions: Activations | None = None
    ) -> Tensor:
        """The states of one of its stacks (`models.forward.run_stack`). Within `run`."""
        if below is not None:
            below = below.to(next(self.model.parameters()).dtype)
        return run_stack(self.model, stack, batch, below, attentions)

    @torch.no_grad()
    def last_states(self, student: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The states that its head reads. `student`: whose frozen encoder serves both where it is the same."""
        below: Tensor | None = None
        for stack in stacks(self.model):
            if stack in self.shared:
                below = run_stack(student, stack, batch, below)
            else:
                below = self.run_stack(stack, batch, below)
        assert below is not None
        return below

    @torch.no_grad()
    def rows(self, states: Tensor, chosen: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """What its projection is given (`Head.rows`)."""

        def work() -> Tensor:
            return self.head.rows(states, chosen, batch)

        return work() if self.head.is_alone else self.run(work)

    @torch.no_grad()
    def logits(self, rows: Tensor) -> Tensor:
        """Logits (n, V) of `rows` (n, d). Within `whole_head`."""
        logits: Tensor = self.head(rows)
        return logits


def load_teacher(folder: Path, student: Any, freeze: tuple[str, ...], precision: Precision) -> Teacher:
    """The teacher of a folder, for a student whose weights are the ones that training starts from."""
    model = load_model(folder, precision="fp32")
    # Compared before it is cast: what is frozen never changes, so neither does the answer.
    return Teacher(model.to(DTYPES[precision]), shared_stacks(student, model, freeze))


def shared_stacks(student: Any, teacher: Any, freeze: Collection[str]) -> tuple[Stack, ...]:
    """The stacks below the last one, from the input up, whose states are the same in both models at every step."""
    found: list[Stack] = []
    for stack in stacks(teacher)[:-1]:
        if stack not in freeze or not equal_parts(student, teacher, stack):
            break
        found.append(stack)
    return tuple(found)
