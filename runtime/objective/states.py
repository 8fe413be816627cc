"""What the terms of an objective look at: the student's and the teacher's states for one micro-batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..models.families import STACKS, layers
from ..models.forward import Taken, decode, decoder_inputs, encode, taking
from ..protocol import ModelOutputs, Stack
from ..signals.layout import KEPT, layer_name
from ..signals.read import signal
from .teacher import Teacher

Batch = Mapping[str, Tensor]
Phi = Mapping[Stack, Sequence[int]]


class Found(NamedTuple):
    """`states` (B, T, d) of the student's decoder and `teacher_states` (B, T, d') of the teacher's, each after its
    last norm; what else of the two is looked at. The teacher's are None and empty where no term asks for them."""

    states: Tensor
    teacher_states: Tensor | None
    ours: ModelOutputs
    theirs: ModelOutputs


class States:
    """Runs both models, and takes of each what is needed and no more.

    `needs`: what the terms look at (`protocol.Needs`); `phi`: the teacher's layer for each of the student's, by
    stack; `align`: at a layer's outputs or its inputs; `frozen_encoder`: the student's runs without a graph. States
    of the teacher that were kept may be in a batch (`signals.read`); what they are of is not run.
    """

    def __init__(
        self,
        student: Any,
        teacher: Teacher | None,
        needs: frozenset[str],
        phi: Phi,
        align: Literal["outputs", "inputs"],
        frozen_encoder: bool,
    ) -> None:
        self.student, self.teacher = student, teacher
        self.needs, self.phi, self.align = needs, phi, align
        self.frozen_encoder = frozen_encoder

    def of(self, batch: Batch) -> Found:
        """All that the terms look at."""
        decoder_input_ids = decoder_inputs(self.student, batch["labels"])  # (B, T)
        states, ours, encoder_states = self._student(batch, decoder_input_ids)
        if "teacher" not in self.needs:
            return Found(states, None, ours, ModelOutputs())
        assert self.teacher is not None
        given = encoder_states.detach()
        theirs, teacher_states = self.teacher.run(lambda: self._teachers(batch, decoder_input_ids, given))
        return Found(states, teacher_states, ours, theirs)

    def _student(self, batch: Batch, decoder_input_ids: Tensor) -> tuple[Tensor, ModelOutputs, Tensor]:
        """(decoder states, what the terms look at, encoder states)."""
        model = self.student
        with ExitStack() as stack:
            encoder, decoder = (self._taken(stack, model, side, own=True) for side in STACKS)
            if (kept := batch.get(signal("encoder"))) is not None:
                encoder_states = kept.to(next(model.parameters()).dtype)
            else:
                with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_encoder):
                    encoder_states = encode(model, batch["input_ids"], batch["attention_mask"], self._maps(encoder))
            states = decode(model, decoder_input_ids, encoder_states, batch["attention_mask"], self._maps(decoder))
        return states, self._outputs(encoder, decoder, states, None), encoder_states

    @torch.no_grad()
    def _teachers(self, batch: Batch, decoder_input_ids: Tensor, encoder_states: Tensor) -> tuple[ModelOutputs, Tensor]:
        """`encoder_states`: the student's, which serve where they are the teacher's own."""
        teacher = self.teacher
        assert teacher is not None
        encoder, decoder = (self._kept(batch, stack) for stack in STACKS)
        states = batch.get(signal("decoder"))
        with ExitStack() as stack:
            if not teacher.shares_encoder and (states is None or encoder is None):
                encoder = self._taken(stack, teacher.model, "encoder", own=False)
                encoder_states = teacher.encode(batch["input_ids"], batch["attention_mask"], self._maps(encoder))
            if states is None or decoder is None:
                decoder = self._taken(stack, teacher.model, "decoder", own=False)
                states = teacher.decode(decoder_input_ids, encoder_states, batch["attention_mask"], self._maps(decoder))
        return self._outputs(encoder or Taken(), decoder, states, self.phi), states

    def idle_stacks(self, states: Collection[str]) -> tuple[Stack, ...]:
        """The teacher's stacks that are not run when every batch has these states."""
        if signal("decoder") not in states or not self._all_kept("decoder", states):
            return ()
        return ("encoder", "decoder") if self._all_kept("encoder", states) else ("decoder",)

    def _kept(self, batch: Batch, stack: Stack) -> Taken | None:
        """What the batch has of the layers that φ names; None: not all of them."""
        if not self._all_kept(stack, batch):
            return None
        return Taken(outputs={layer: batch[signal(stack, layer_name(layer))] for layer in self._compared(stack)})

    def _all_kept(self, stack: Stack, states: Collection[str]) -> bool:
        if self.align == "inputs" or not self.needs <= KEPT:
            return False
        return all(signal(stack, layer_name(layer)) in states for layer in self._compared(stack))

    def _compared(self, stack: Stack) -> set[int]:
        """The teacher's layers of a stack whose states a term looks at."""
        return set(self.phi.get(stack, ())) if "hidden" in self.needs else set()

    def _taken(self, context: ExitStack, model: Any, stack: Stack, *, own: bool) -> Taken:
        """What is taken of a stack while it runs: of the student (`own`) its first layers, one for each entry of
        φ; of the teacher the layers that φ names."""
        found: Sequence[int] = ()
        if "hidden" in self.needs and stack in self.phi:
            phi = self.phi[stack]
            found = range(len(phi)) if own else sorted(set(phi))
        outputs, inputs = (found, ()) if self.align == "outputs" else ((), found)
        embeddings = (0,) if "embeddings" in self.needs and stack == "decoder" and len(layers(model, stack)) else ()
        return context.enter_context(taking(model, stack, inputs=(*inputs, *embeddings), outputs=tuple(outputs)))

    def _maps(self, taken: Taken) -> Taken | None:
        return taken if "attention" in self.needs else None

    def _outputs(self, encoder: Taken, decoder: Taken, states: Tensor, phi: Phi | None) -> ModelOutputs:
        """What the terms look at; with `phi`, of the teacher: entry k is the one for student layer k."""

        def paired(taken: Taken, stack: Stack) -> tuple[Tensor, ...] | None:
            if "hidden" not in self.needs or stack not in self.phi:
                return None
            kept = taken.outputs if self.align == "outputs" else taken.inputs
            order = range(len(self.phi[stack])) if phi is None else phi[stack]
            return tuple(kept[index] for index in order)

        def maps(found: tuple[Tensor, ...], stack: Stack) -> tuple[Tensor, ...] | None:
            if "attention" not in self.needs or stack not in self.phi or not found:
                return None
            return tuple(found[index] for index in (range(len(found)) if phi is None else phi[stack]))

        return ModelOutputs(
            encoder_layers=paired(encoder, "encoder"),
            decoder_layers=paired(decoder, "decoder"),
            encoder_self_attention=maps(encoder.self_attention, "encoder"),
            decoder_self_attention=maps(decoder.self_attention, "decoder"),
            decoder_cross_attention=maps(decoder.cross_attention, "decoder"),
            decoder_embeddings=decoder.inputs.get(0) if "embeddings" in self.needs else None,
            last_state=states if "last-state" in self.needs else None,
        )
