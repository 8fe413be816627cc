"""Learned projections of a narrower student's states to the teacher's width (TinyBERT, Jiao et al. 2020, Eq 8).

They exist while the student is trained and are no part of it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, get_args

from torch import Tensor, nn

from ..failure import Failure
from ..models.families import stacks
from ..protocol import ModelOutputs, Stack
from .teacher import Teacher

OF_STATES = {"encoder": "hidden", "decoder": "hidden", "embeddings": "embeddings", "last": "last-state"}


class Projections(nn.Module):
    """One matrix (d', d) for each kind of state that is compared; none where the widths are equal.

    Raises `Failure` R306: attention maps of models with different numbers of heads, which nothing projects.
    """

    def __init__(self, student: Any, teacher: Teacher | None, needs: Collection[str]) -> None:
        super().__init__()
        self.matrices = nn.ModuleDict()
        if teacher is None:
            return
        student_width, teacher_width = _width(student), _width(teacher.model)
        if "attention" in needs and _heads(student) != _heads(teacher.model):
            raise Failure(
                "R306",
                f"the student has {_heads(student)} attention heads and the teacher {_heads(teacher.model)}: their "
                "attention maps cannot be compared",
                "remove the term `attention`, or keep the number of heads",
                spec_path="loss.attention",
            )
        if student_width != teacher_width:
            for name, need in OF_STATES.items():
                if need in needs and (name not in get_args(Stack) or name in stacks(student)):
                    self.matrices[name] = nn.Linear(student_width, teacher_width, bias=False)

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, outputs: ModelOutputs) -> ModelOutputs:
        """The student's outputs, its states as wide as the teacher's."""
        if not self.matrices:
            return outputs

        def each(states: tuple[Tensor, ...] | None, name: str) -> tuple[Tensor, ...] | None:
            return None if states is None else tuple(self.matrices[name](state) for state in states)

        def one(state: Tensor | None, name: str) -> Tensor | None:
            return None if state is None else self.matrices[name](state)

        return replace(
            outputs,
            encoder_layers=each(outputs.encoder_layers, "encoder"),
            decoder_layers=each(outputs.decoder_layers, "decoder"),
            encoder_embeddings=one(outputs.encoder_embeddings, "embeddings"),
            decoder_embeddings=one(outputs.decoder_embeddings, "embeddings"),
            last_state=one(outputs.last_state, "last"),
        )


def _width(model: Any) -> int:
    return int(model.config.hidden_size)


def _heads(model: Any) -> int:
    return int(model.config.num_attention_heads)
