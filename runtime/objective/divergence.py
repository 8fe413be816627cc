"""Divergences between the next-token distributions of teacher and student (Eq 3 of Shleifer & Rush 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..protocol import CandidateTokens, Term, TermInputs
from ..signals.candidates import with_rest


def divergence_sum(
    student: Tensor,
    teacher: Tensor,
    divergence: str,
    temperature: float = 1.0,
    beta: float | None = None,
    alpha: float | None = None,
) -> Tensor:
    """temperature² times the divergence of softmax(student / temperature) from softmax(teacher / temperature), in
    nats, summed over the rows.

    student (N, V), teacher (N, V'), any float types; entries that only one of them has are padding of the
    vocabulary and take no part (as logits of minus infinity would). Computed in float32 or, for float64, in
    that. T² keeps the gradient's size when T grows (Hinton et al. 2015). With T = 2 and divided by N it is
    the mean of the 2020 code. `mse` is no divergence of distributions: the squared error of the logits, summed over
    the vocabulary (DistilBERT's code); T² cancels the temperature. Returns a scalar.
    """
    size = min(student.shape[-1], teacher.shape[-1])
    dtype = torch.float64 if student.dtype == torch.float64 else torch.float32
    if divergence == MSE:
        return (student[..., :size].to(dtype) - teacher[..., :size].to(dtype)).square().sum()
    log_student = torch.log_softmax(student[..., :size].to(dtype) / temperature, dim=-1)
    log_teacher = torch.log_softmax(teacher[..., :size].to(dtype) / temperature, dim=-1)
    return DIVERGENCES[divergence](log_teacher, log_student, beta, alpha) * temperature**2


def kl_sum(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) of log-probabilities (N, V), summed over everything. Where p is 0 nothing is added."""
    return (log_p.exp() * (log_p - log_q)).masked_fill(log_p == -math.inf, 0.0).sum()


def _forward(log_p: Tensor, log_q: Tensor, beta: float | None, alpha: float | None) -> Tensor:
    return kl_sum(log_p, log_q)


def _reverse(log_p: Tensor, log_q: Tensor, beta: float | None, alpha: float | None) -> Tensor:
    return kl_sum(log_q, log_p)


def _jsd(log_p: Tensor, log_q: Tensor, beta: float | None, alpha: float | None) -> Tensor:
    """beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q (Agarwal et al. 2024, Eq 1)."""
    assert beta is not None
    log_m = _mixture(log_p, log_q, beta)
    return beta * kl_sum(log_p, log_m) + (1 - beta) * kl_sum(log_q, log_m)


def _skew(log_p: Tensor, log_q: Tensor, beta: float | None, alpha: float | None) -> Tensor:
    """KL(p || alpha p + (1 - alpha) q) (Ko et al. 2024, Eq 4)."""
    assert alpha is not None
    return kl_sum(log_p, _mixture(log_p, log_q, alpha))


def _mixture(log_p: Tensor, log_q: Tensor, share: float) -> Tensor:
    """log(share p + (1 - share) q)."""
    return torch.logaddexp(log_p + math.log(share), log_q + math.log1p(-share))


MSE = "mse"
DIVERGENCES: dict[str, Callable[[Tensor, Tensor, float | None, float | None], Tensor]] = {
    "forward-kl": _forward,
    "reverse-kl": _reverse,
    "jsd": _jsd,
    "skew-kl": _skew,
}


# --- of some tokens only -----------------------------------------------------------------------------


def top_k_divergence_sum(
    student: Tensor,
    teacher: CandidateTokens,
    divergence: str,
    temperature: float = 1.0,
    alpha: float | None = None,
) -> Tensor:
    """temperature² times the divergence over K + 1 outcomes, in nats, summed over the rows: the teacher's candidates,
    and all other tokens as one.

    student (N, V) logits, teacher: ids (N, K), log-probabilities (N, K + 1) at the same temperature. At most that of
    all tokens (joining outcomes never adds to a divergence), and zero where the two agree. For the divergences that
    are means over the teacher's distribution. Returns a scalar.
    """
    log_q = with_rest(_log_student(student, teacher, temperature), teacher.ids)
    log_p = teacher.log_probabilities.to(log_q)
    return DIVERGENCES[divergence](log_p, log_q, None, alpha) * temperature**2


def sampled_divergence_sum(
    student: Tensor,
    teacher: CandidateTokens,
    divergence: str,
    temperature: float = 1.0,
    alpha: float | None = None,
) -> Tensor:
    """temperature² times the mean over the teacher's draws of log p - log q (skew-kl: log p - log of the mixture),
    summed over the rows: KL(p || q) and its gradient, without bias.

    student (N, V) logits, teacher: ids (N, K) drawn with replacement, log-probabilities (N, K) at the same
    temperature. May be below zero. Returns a scalar.
    """
    log_q = _log_student(student, teacher, temperature).gather(-1, teacher.ids)
    log_p = teacher.log_probabilities.to(log_q)
    if divergence == "skew-kl":
        assert alpha is not None
        log_q = _mixture(log_p, log_q, alpha)
    return (log_p - log_q).sum() / teacher.ids.shape[-1] * temperature**2


def _log_student(student: Tensor, teacher: CandidateTokens, temperature: float) -> Tensor:
    dtype = torch.promote_types(student.dtype, torch.float32)
    return torch.log_softmax(student[..., : teacher.vocabulary].to(dtype) / temperature, dim=-1)


OF_CANDIDATES = {"top-k": top_k_divergence_sum, "sampled": sampled_divergence_sum}


# --- as it is registered ---------------------------------------------------------------------------


def _logits(inputs: TermInputs, settings: Mapping[str, Any]) -> Tensor:
    assert inputs.student.logits is not None and inputs.teacher is not None and inputs.teacher.logits is not None
    valid = inputs.labels != -100
    return divergence_sum(
        inputs.student.logits[valid],
        inputs.teacher.logits[valid],
        settings["divergence"],
        settings["temperature"],
        settings["beta"],
        settings["alpha"],
    )


LOGITS = Term(sum=_logits, items="label-tokens", needs=frozenset({"logits", "teacher"}))


def _everywhere(inputs: TermInputs, settings: Mapping[str, Any]) -> Tensor:
    return _logits(replace(inputs, labels=torch.zeros_like(inputs.labels)), settings)


# The same term at every position that is computed, whether a label stands there or not (`positions: all`).
LOGITS_EVERYWHERE = replace(LOGITS, sum=_everywhere, stack="last")


def _candidates(inputs: TermInputs, settings: Mapping[str, Any]) -> Tensor:
    assert inputs.student.logits is not None and inputs.teacher is not None and inputs.teacher.candidates is not None
    valid = inputs.labels != -100
    kept = inputs.teacher.candidates[valid]
    return OF_CANDIDATES[kept.kind](
        inputs.student.logits[valid], kept, settings["divergence"], settings["temperature"], settings["alpha"]
    )


# The same term where the teacher's candidates stand for its logits.
LOGITS_OF_CANDIDATES = Term(sum=_candidates, items="label-tokens", needs=frozenset({"logits"}))
