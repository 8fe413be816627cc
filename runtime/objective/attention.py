"""Terms that compare attention maps of paired layers: probabilities, or the scores before the softmax (TinyBERT,
Jiao et al. 2020, Eq 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..protocol import Need, Term, TermInputs


def attention_sum(student: Sequence[Tensor], teacher: Sequence[Tensor], queries: Tensor, keys: Tensor) -> Tensor:
    """Squared error of attention maps, its mean over heads and valid keys, summed over layer pairs and
    valid queries.

    student, teacher: one map (B, heads, Q, K) a pair; queries (B, Q) and keys (B, K) bool. Padding takes no
    part: a row's value is the same whatever else is in the batch. Returns a scalar.
    """
    dtype = torch.float64 if student[0].dtype == torch.float64 else torch.float32
    counts = keys.sum(dim=-1).clamp(min=1)  # (B,)
    total = student[0].new_zeros((), dtype=dtype)
    for student_maps, teacher_maps in zip(student, teacher, strict=True):
        error = (student_maps.to(dtype) - teacher_maps.to(dtype)).square().mean(dim=1)  # (B, Q, K)
        row = (error * keys[:, None, :]).sum(dim=-1) / counts[:, None]  # (B, Q)
        total = total + row[queries].sum()
    return total


def _encoder_self(inputs: TermInputs, settings: Mapping[str, Any]) -> Tensor:
    assert inputs.teacher is not None
    student_maps, teacher_maps = inputs.student.encoder_self_attention, inputs.teacher.encoder_self_attention
    assert student_maps is not None and teacher_maps is not None
    return attention_sum(student_maps, teacher_maps, inputs.masks["encoder"], inputs.masks["encoder"])


def _decoder_self(inputs: TermInputs, settings: Mapping[str, Any]) -> Tensor:
    assert inputs.teacher is not None
    student_maps, teacher_maps = inputs.student.decoder_self_attention, inputs.teacher.decoder_self_attention
    assert student_maps is not None and teacher_maps is not None
    return attention_sum(student_maps, teacher_maps, inputs.masks["decoder"], inputs.masks["decoder"])


def _decoder_cross(inputs: TermInputs, settings: Mapping[str, Any]) -> Tensor:
    assert inputs.teacher is not None
    student_maps, teacher_maps = inputs.student.decoder_cross_attention, inputs.teacher.decoder_cross_attention
    assert student_maps is not None and teacher_maps is not None
    return attention_sum(student_maps, teacher_maps, inputs.masks["decoder"], inputs.masks["encoder"])


_NEEDS: frozenset[Need] = frozenset({"attention", "teacher", "phi"})
ENCODER_SELF = Term(sum=_encoder_self, items="source-tokens", needs=_NEEDS, weight="encoder_self", stack="encoder")
DECODER_SELF = Term(sum=_decoder_self, items="label-tokens", needs=_NEEDS, weight="decoder_self", stack="decoder")
DECODER_CROSS = Term(sum=_decoder_cross, items="label-tokens", needs=_NEEDS, weight="decoder_cross", stack="decoder")
ATTENTION = (ENCODER_SELF, DECODER_SELF, DECODER_CROSS)
