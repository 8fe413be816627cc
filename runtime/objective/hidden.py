"""Terms that compare hidden states: layer outputs through φ, the last state's direction, embedding outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..protocol import ModelOutputs, Need, Stack, Term, TermInputs

EPSILON = 1e-5  # of the layer normalisation, as in the 2020 code


def hidden_sum(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor, layer_norm: str) -> Tensor:
    """Mean squared error over the width, summed over layer pairs and valid tokens (Eq 4 of Shleifer & Rush 2020).

    student, teacher: one tensor (B, S, d) a pair, equal widths; mask (B, S) bool. Divided by the number of
    valid tokens it is the 2020 code's value: the sum over pairs of the mean over tokens and width.
    `layer_norm`: `none`; `per-token`, over d; `per-batch`, over (B, S, d) together, padding included, as the
    2020 code did: its value depends on what else is in the batch. Returns a scalar.
    """
    total = student[0].new_zeros((), dtype=_dtype(student[0]))
    for pair in zip(student, teacher, strict=True):
        one, other = (_normal(state.to(_dtype(pair[0])), layer_norm) for state in pair)
        total = total + (one - other).square().mean(dim=-1)[mask].sum()
    return total


def cosine_sum(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """1 - cos(student, teacher), summed over valid tokens (DistilBERT's L_cos). States (B, S, d), mask (B, S)
    bool. Returns a scalar."""
    dtype = _dtype(student)
    similarity = functional.cosine_similarity(student.to(dtype), teacher.to(dtype), dim=-1)
    return (1 - similarity)[mask].sum()


def _dtype(state: Tensor) -> torch.dtype:
    return torch.float64 if state.dtype == torch.float64 else torch.float32


def _normal(state: Tensor, layer_norm: str) -> Tensor:
    if layer_norm == "none":
        return state
    shape = state.shape if layer_norm == "per-batch" else state.shape[-1:]
    return functional.layer_norm(state, shape, eps=EPSILON)


# --- as they are registered ------------------------------------------------------------------------


def _states(outputs: ModelOutputs, stack: Stack) -> tuple[Tensor, ...]:
    found = outputs.encoder_layers if stack == "encoder" else outputs.decoder_layers
    assert found is not None
    return found


def _mask(inputs: TermInputs, stack: Stack) -> Tensor:
    return inputs.masks[stack]


def _last_mask(inputs: TermInputs) -> Tensor:
    return _mask(inputs, list(inputs.masks)[-1])


def _pairs(inputs: TermInputs, settings: Mapping[str, Any], stack: Stack) -> Tensor:
    """The states come in pairs already: the k-th of the teacher is the one for student layer k."""
    assert inputs.teacher is not None
    student_states, teacher_states = _states(inputs.student, stack), _states(inputs.teacher, stack)
    return hidden_sum(student_states, teacher_states, _mask(inputs, stack), settings["layer_norm"])


def _encoder(inputs: TermInputs, settings: Mapping[str, Any]) -> Tensor:
    return _pairs(inputs, settings, "encoder")


def _decoder(inputs: TermInputs, settings: Mapping[str, Any]) -> Tensor:
    return _pairs(inputs, settings, "decoder")


def _cosine(inputs: TermInputs, settings: Mapping[str, Any]) -> Tensor:
    assert inputs.teacher is not None
    student_states, teacher_states = inputs.student.last_state, inputs.teacher.last_state
    assert student_states is not None and teacher_states is not None
    return cosine_sum(student_states, teacher_states, _last_mask(inputs))


def _embedding(inputs: TermInputs, settings: Mapping[str, Any]) -> Tensor:
    assert inputs.teacher is not None
    student_states, teacher_states = (
        outputs.encoder_embeddings if outputs.decoder_embeddings is None else outputs.decoder_embeddings
        for outputs in (inputs.student, inputs.teacher)
    )
    assert student_states is not None and teacher_states is not None
    return hidden_sum([student_states], [teacher_states], _last_mask(inputs), "none")


_HIDDEN: frozenset[Need] = frozenset({"hidden", "teacher", "phi"})
HIDDEN_ENCODER = Term(sum=_encoder, items="source-tokens", needs=_HIDDEN, weight="encoder", stack="encoder")
HIDDEN_DECODER = Term(sum=_decoder, items="label-tokens", needs=_HIDDEN, weight="decoder", stack="decoder")
HIDDEN = (HIDDEN_ENCODER, HIDDEN_DECODER)
COSINE = Term(sum=_cosine, items="label-tokens", needs=frozenset({"last-state", "teacher"}), stack="last")
EMBEDDING = Term(sum=_embedding, items="label-tokens", needs=frozenset({"embeddings", "teacher"}), stack="last")
