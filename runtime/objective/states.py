"""What the terms of an objective look at: the student's and the teacher's states for one micro-batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..models.families import layers, stacks
from ..models.forward import Activations, capture_activations, run_stack, with_inputs
from ..protocol import ModelOutputs, Stack
from ..signals.layout import KEPT, layer_name
from ..signals.read import signal
from .teacher import Teacher

Batch = Mapping[str, Tensor]
Phi = Mapping[Stack, Sequence[int]]


class ModelStates(NamedTuple):
    """`student` (B, T, d) and `teacher` (B, T, d'): the states that the heads read, after the last norm; what else of
    the two models the terms look at. The teacher's are None and empty where no term asks for them."""

    student: Tensor
    teacher: Tensor | None
    student_outputs: ModelOutputs
    teacher_outputs: ModelOutputs


class States:
    """Runs both models, and captures of each what is needed and no more.

    `needs`: what the terms look at (`protocol.Needs`); `phi`: the teacher's layer for each of the student's, by
    stack; `align`: at a layer's outputs or its inputs; `frozen`: the student's stacks that run without a graph. States
    of the teacher that were kept may be in a batch (`signals.read`); what they are of is not run.
    """

    def __init__(
        self,
        student: Any,
        teacher: Teacher | None,
        needs: frozenset[str],
        phi: Phi,
        align: Literal["outputs", "inputs"],
        frozen: Collection[str],
    ) -> None:
        self.student, self.teacher = student, teacher
        self.needs, self.phi, self.align = needs, phi, align
        self.frozen = frozen
        self.stacks = stacks(student)

    def of(self, batch: Batch) -> ModelStates:
        """All that the terms look at."""
        batch = with_inputs(self.student, batch)
        states, student_outputs = self._student(batch)
        last = states[self.stacks[-1]]
        if "teacher" not in self.needs:
            return ModelStates(last, None, student_outputs, ModelOutputs())
        assert self.teacher is not None
        given = {stack: found.detach() for stack, found in states.items()}
        teacher_outputs, teacher_last = self.teacher.run(lambda: self._teacher(batch, given))
        return ModelStates(last, teacher_last, student_outputs, teacher_outputs)

    def _student(self, batch: Batch) -> tuple[dict[Stack, Tensor], ModelOutputs]:
        """(the states of each stack, what the terms look at)."""
        model = self.student
        states: dict[Stack, Tensor] = {}
        below: Tensor | None = None
        with ExitStack() as context:
            captured = {stack: self._capture(context, model, stack, is_student=True) for stack in self.stacks}
            for stack in self.stacks:
                if stack != self.stacks[-1] and (kept := batch.get(signal(stack))) is not None:
                    below = kept.to(next(model.parameters()).dtype)
                else:
                    with torch.set_grad_enabled(torch.is_grad_enabled() and stack not in self.frozen):
                        below = run_stack(model, stack, batch, below, self._maps(captured[stack]))
                states[stack] = below
        return states, self._outputs(captured, states[self.stacks[-1]], None)

    @torch.no_grad()
    def _teacher(self, batch: Batch, student_states: Mapping[Stack, Tensor]) -> tuple[ModelOutputs, Tensor]:
        """`student_states`: of each stack, which serve where they are the teacher's own."""
        teacher = self.teacher
        assert teacher is not None
        last = batch.get(signal(self.stacks[-1]))
        captured = {stack: self._kept(batch, stack) for stack in self.stacks}
        below: Tensor | None = None
        with ExitStack() as context:
            for stack in self.stacks:
                if stack in teacher.shared or (last is not None and captured[stack] is not None):
                    below = student_states[stack]
                    continue
                captured[stack] = found = self._capture(context, teacher.model, stack, is_student=False)
                below = teacher.run_stack(stack, batch, below, self._maps(found))
                if stack == self.stacks[-1]:
                    last = below
        assert last is not None
        whole = {stack: found or Activations() for stack, found in captured.items()}
        return self._outputs(whole, last, self.phi), last

    def idle_stacks(self, states: Collection[str]) -> tuple[Stack, ...]:
        """The teacher's stacks that are not run when every batch has these states."""
        last = self.stacks[-1]
        if signal(last) not in states or not self._all_kept(last, states):
            return ()
        return tuple(stack for stack in self.stacks if self._all_kept(stack, states))

    def _kept(self, batch: Batch, stack: Stack) -> Activations | None:
        """What the batch has of the layers that φ names; None: not all of them."""
        if not self._all_kept(stack, batch):
            return None
        return Activations(outputs={layer: batch[signal(stack, layer_name(layer))] for layer in self._compared(stack)})

    def _all_kept(self, stack: Stack, states: Collection[str]) -> bool:
        if self.align == "inputs" or not self.needs <= KEPT:
            return False
        return all(signal(stack, layer_name(layer)) in states for layer in self._compared(stack))

    def _compared(self, stack: Stack) -> set[int]:
        """The teacher's layers of a stack whose states a term looks at."""
        return set(self.phi.get(stack, ())) if "hidden" in self.needs else set()

    def _capture(self, context: ExitStack, model: Any, stack: Stack, *, is_student: bool) -> Activations:
        """What is captured of a stack while it runs: of the student its first layers, one for each entry of φ; of the
        teacher the layers that φ names."""
        found: Sequence[int] = ()
        if "hidden" in self.needs and stack in self.phi:
            phi = self.phi[stack]
            found = range(len(phi)) if is_student else sorted(set(phi))
        outputs, inputs = (found, ()) if self.align == "outputs" else ((), found)
        is_last = stack == self.stacks[-1]
        embeddings = (0,) if "embeddings" in self.needs and is_last and len(layers(model, stack)) else ()
        return context.enter_context(
            capture_activations(model, stack, inputs=(*inputs, *embeddings), outputs=tuple(outputs))
        )

    def _maps(self, captured: Activations) -> Activations | None:
        return captured if "attention" in self.needs else None

    def _outputs(self, captured: Mapping[Stack, Activations], last: Tensor, phi: Phi | None) -> ModelOutputs:
        """What the terms look at; with `phi`, of the teacher: entry k is the one for student layer k."""
        found: dict[str, Any] = {}
        for stack, activations in captured.items():
            if stack in self.phi and "hidden" in self.needs:
                kept = activations.outputs if self.align == "outputs" else activations.inputs
                order = range(len(self.phi[stack])) if phi is None else phi[stack]
                found[f"{stack}_layers"] = tuple(kept[index] for index in order)
            if stack in self.phi and "attention" in self.needs:
                for kind in ("self", "cross"):
                    if maps := getattr(activations, f"{kind}_attention"):
                        order = range(len(maps)) if phi is None else phi[stack]
                        found[f"{stack}_{kind}_attention"] = tuple(maps[index] for index in order)
            if stack == self.stacks[-1] and "embeddings" in self.needs:
                found[f"{stack}_embeddings"] = activations.inputs.get(0)
        return ModelOutputs(**found, last_state=last if "last-state" in self.needs else None)
