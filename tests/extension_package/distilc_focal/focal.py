"""A term, a metric and a family, as `distilc.runtime.protocol` describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from distilc.runtime.models.families import BART
from distilc.runtime.protocol import Metric, ScoreInputs, Term, TermInputs


def focal_term(inputs: TermInputs, settings: Mapping[str, Any]) -> Tensor:
    """-(1 - p)^gamma log p of the label tokens, in nats, summed (equation 4 of arXiv 1708.02002, without alpha)."""
    assert inputs.student.logits is not None
    negative = -functional.log_softmax(inputs.student.logits.float(), dim=-1)  # (..., V)
    counts = inputs.labels != -100
    labels = inputs.labels.masked_fill(~counts, 0)
    loss = negative.gather(-1, labels.unsqueeze(-1)).squeeze(-1)  # (...)
    missed = -torch.expm1(-loss).clamp(min=-1.0, max=-1e-12)  # 1 - p; a root has no slope at 0
    return (missed ** settings["gamma"] * loss * counts).sum()


def focal_mean(inputs: TermInputs, settings: Mapping[str, Any]) -> Tensor:
    """The same as the paper writes it, a mean over the label tokens: what `distilc verify` holds the term to."""
    assert inputs.student.logits is not None
    counts = inputs.labels != -100
    p = inputs.student.logits[counts].softmax(dim=-1)[torch.arange(int(counts.sum())), inputs.labels[counts]]  # (N,)
    return (-((1 - p) ** settings["gamma"]) * p.log()).mean()


def length_error(names: Sequence[str], inputs: ScoreInputs) -> dict[str, dict[str, Any]]:
    """The mean over examples of the difference in words, in percent of the reference's."""
    errors = [
        100.0 * abs(len(text.split()) - len(reference.split())) / max(1, len(reference.split()))
        for text, reference in zip(inputs.predictions, inputs.references, strict=True)
    ]
    return {"length_error": {"value": sum(errors) / len(errors)}}


FOCAL = Term(sum=focal_term, items="label-tokens", needs=frozenset({"logits"}), reference=focal_mean)
LENGTH_ERROR = Metric(score=length_error, needs="texts", higher_is_better=False)
PLBART = replace(BART, model_type="plbart", decoder_start="language")
