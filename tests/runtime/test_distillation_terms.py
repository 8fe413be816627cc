"""The distillation terms against reference numbers (float64, computed apart) and plain formulas."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from distilc.runtime.objective.attention import attention_sum
from distilc.runtime.objective.divergence import (
    DIVERGENCES,
    divergence_sum,
    sampled_divergence_sum,
    top_k_divergence_sum,
)
from distilc.runtime.objective.hidden import cosine_sum, hidden_sum
from distilc.runtime.plan.settings import KeptCandidates
from distilc.runtime.protocol import CandidateTokens
from distilc.runtime.signals.candidates import choose, draws

RANGE = torch.arange(30, dtype=torch.float64)
MASK = torch.tensor([[True, True, True], [True, True, False]])
STUDENT, TEACHER = torch.sin(RANGE).reshape(2, 3, 5)[MASK], torch.cos(RANGE).reshape(2, 3, 5)[MASK]
STATES = torch.arange(48, dtype=torch.float64)
OURS, THEIRS = torch.sin(STATES).reshape(2, 2, 3, 4), torch.cos(STATES).reshape(2, 2, 3, 4)


def test_forward_kl_is_the_reference() -> None:
    found = divergence_sum(STUDENT, TEACHER, "forward-kl", temperature=2.0)
    assert float(found) / 5 == pytest.approx(0.4509871093521963, abs=1e-12)
    # Eq 3 as printed: no temperature, a sum
    assert float(divergence_sum(STUDENT, TEACHER, "forward-kl")) == pytest.approx(2.075509744034111, abs=1e-12)


def test_the_other_divergences_are_their_formulas() -> None:
    p, q = (torch.softmax(x / 1.5, -1) for x in (TEACHER, STUDENT))
    kl = lambda a, b: float((a * (a / b).log()).sum()) * 1.5**2  # noqa: E731
    assert float(divergence_sum(STUDENT, TEACHER, "reverse-kl", 1.5)) == pytest.approx(kl(q, p), rel=1e-12)
    m = 0.3 * p + 0.7 * q
    expected = 0.3 * kl(p, m) + 0.7 * kl(q, m)
    assert float(divergence_sum(STUDENT, TEACHER, "jsd", 1.5, beta=0.3)) == pytest.approx(expected, rel=1e-12)
    skewed = kl(p, 0.1 * p + 0.9 * q)
    assert float(divergence_sum(STUDENT, TEACHER, "skew-kl", 1.5, alpha=0.1)) == pytest.approx(skewed, rel=1e-12)


def test_the_squared_error_of_logits_is_a_sum_over_the_vocabulary_whatever_the_temperature() -> None:
    """DistilBERT's code: MSELoss(reduction="sum") over the number of tokens."""
    for temperature in (1.0, 2.0):
        found = divergence_sum(STUDENT, TEACHER, "mse", temperature)
        assert float(found) / 5 == pytest.approx(4.9715130091884, abs=1e-12)


@pytest.mark.parametrize("divergence", [*DIVERGENCES, "mse"])
def test_no_divergence_from_itself_and_padding_of_the_vocabulary_takes_no_part(divergence: str) -> None:
    options = {"temperature": 2.0, "beta": 0.5, "alpha": 0.1}
    assert float(divergence_sum(TEACHER, TEACHER, divergence, **options)) == pytest.approx(0.0, abs=1e-12)
    padded = functional.pad(STUDENT, (0, 3), value=7.0)
    one = divergence_sum(STUDENT, TEACHER, divergence, **options)
    assert float(divergence_sum(padded, TEACHER, divergence, **options)) == float(one) > 0
    assert float(divergence_sum(STUDENT, functional.pad(TEACHER, (0, 2), value=9.0), divergence, **options)) == float(one)


def test_a_token_that_a_model_rules_out_gives_no_nan() -> None:
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone()
    teacher[:, 0] = -math.inf
    loss = divergence_sum(student, teacher, "forward-kl", 2.0)
    loss.backward()
    assert math.isfinite(float(loss)) and student.grad is not None and bool(student.grad.isfinite().all())


# --- of candidates -----------------------------------------------------------------------------------

MANY = torch.sin(torch.arange(60, dtype=torch.float64) ** 2).reshape(5, 12) * 3  # the teacher's logits
OTHER = torch.cos(torch.arange(60, dtype=torch.float64) ** 2).reshape(5, 12) * 3


def kept(kind: Any, number: int, vocabulary: int = 12, temperature: float = 2.0, rows: int = 5) -> CandidateTokens:
    settings = KeptCandidates(kind=kind, number=number, vocabulary=vocabulary, temperature=temperature, seed=3)
    uniform = torch.from_numpy(draws(settings, 0, rows)) if kind == "sampled" else None
    ids, log_p = choose(MANY[:1].expand(rows, -1) if rows != 5 else MANY, settings, uniform)
    assert ids.dtype == torch.int32
    return CandidateTokens(kind=kind, vocabulary=vocabulary, ids=ids.long(), log_probabilities=log_p)


@pytest.mark.parametrize("divergence", ["forward-kl", "skew-kl"])
def test_the_most_probable_and_the_rest_are_k_plus_one_outcomes(divergence: str) -> None:
    p, q = (torch.softmax(x / 2.0, -1) for x in (MANY, OTHER))
    order = p.argsort(-1, descending=True)
    p, q = (torch.cat([x[:, :4], x[:, 4:].sum(-1, keepdim=True)], -1) for x in (p.gather(-1, order), q.gather(-1, order)))
    m = q if divergence == "forward-kl" else 0.1 * p + 0.9 * q
    found = float(top_k_divergence_sum(OTHER, kept("top-k", 4), divergence, 2.0, 0.1))
    assert found == pytest.approx(float((p * (p / m).log()).sum()) * 4, rel=1e-12)
    whole = float(divergence_sum(OTHER, MANY, divergence, 2.0, alpha=0.1))
    steps = [float(top_k_divergence_sum(OTHER, kept("top-k", k), divergence, 2.0, 0.1)) for k in (1, 4, 8, 11)]
    assert steps == sorted(steps) and steps[0] > 0
    assert steps[-1] == pytest.approx(whole, rel=1e-12)  # one token is left: it is its own rest
    assert float(top_k_divergence_sum(MANY, kept("top-k", 4), divergence, 2.0, 0.1)) == pytest.approx(0.0, abs=1e-12)


def test_top_k_is_the_reference() -> None:
    assert float(top_k_divergence_sum(OTHER, kept("top-k", 4), "forward-kl", 2.0)) == pytest.approx(15.143494723574536, abs=1e-12)


def test_a_rest_that_is_almost_nothing_loses_no_digits() -> None:
    sharp = MANY.float() * 20  # all but a 1e-8 of the mass is on few tokens
    settings = KeptCandidates(kind="top-k", number=6, vocabulary=12, temperature=1.0, seed=None)
    (ids, log_p), (_, exact) = choose(sharp, settings, None), choose(sharp.double(), settings, None)
    assert float(exact[:, -1].max()) < -8 and torch.allclose(log_p[:, -1].double(), exact[:, -1], rtol=1e-5)
    student = sharp.clone().requires_grad_()
    teacher = CandidateTokens(kind="top-k", vocabulary=12, ids=ids.long(), log_probabilities=log_p)
    top_k_divergence_sum(student, teacher, "forward-kl").backward()
    assert student.grad is not None and float(student.grad.abs().max()) < 1e-5


@pytest.mark.parametrize("divergence", ["forward-kl", "skew-kl"])
def test_draws_give_the_divergence_and_its_gradient_on_average(divergence: str) -> None:
    """20,000 draws of one row: within 5 standard errors of the exact value, and of each entry of the gradient."""
    teacher = kept("sampled", 10, rows=2000)
    student = OTHER[:1].clone().requires_grad_()
    whole = divergence_sum(student, MANY[:1], divergence, 2.0, alpha=0.1)
    (gradient,) = torch.autograd.grad(whole, student)
    rows = OTHER[:1].expand(2000, -1).clone().requires_grad_()
    total = sampled_divergence_sum(rows, teacher, divergence, 2.0, 0.1)
    (found,) = torch.autograd.grad(total, rows)
    assert float((found.mean(0) - gradient[0]).abs().max()) < 5 * float(found.std(0).max()) / math.sqrt(2000)
    p = torch.softmax(MANY[0] / 2.0, -1)
    frequencies = torch.bincount(teacher.ids.flatten(), minlength=12) / teacher.ids.numel()
    assert float((frequencies - p).abs().max()) < 5 * 0.5 / math.sqrt(20_000)
    assert float(total.detach()) / 2000 == pytest.approx(float(whole.detach()), rel=0.05)
    same = float(sampled_divergence_sum(MANY, kept("sampled", 10), divergence, 2.0, 0.1))
    assert same == pytest.approx(0.0, abs=1e-12)  # each draw by itself


@pytest.mark.parametrize("kind", ["top-k", "sampled"])
def test_candidates_know_nothing_of_padding_of_the_vocabulary(kind: Any) -> None:
    teacher = kept(kind, 4, vocabulary=10)
    assert int(teacher.ids.max()) < 10
    compute = {"top-k": top_k_divergence_sum, "sampled": sampled_divergence_sum}[kind]
    one = compute(OTHER[:, :10], teacher, "forward-kl", 2.0)
    assert float(compute(OTHER, teacher, "forward-kl", 2.0)) == float(one)


def test_a_draw_depends_on_seed_row_and_position_alone() -> None:
    settings = KeptCandidates(kind="sampled", number=3, vocabulary=12, temperature=1.0, seed=7)
    long, short = draws(settings, 5, 9), draws(settings, 5, 4)
    assert (long[:4] == short).all() and long.min() >= 0 and long.max() < 1
    assert (draws(settings, 6, 4) != short).all() and (draws(replace(settings, seed=8), 5, 4) != short).all()
    assert draws(settings, 5, 1)[0].tolist() == pytest.approx([0.0487398305493153, 0.8109222632854719, 0.3434348884245175])


# --- of states ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer_norm", "expected"),
    [("none", 2.0382789915864477), ("per-batch", 4.110014166447634), ("per-token", 4.208768455186171)],
)
def test_hidden_is_the_reference(layer_norm: str, expected: float) -> None:
    found = float(hidden_sum(list(OURS), list(THEIRS), MASK, layer_norm)) / 5
    assert found == pytest.approx(expected, abs=1e-12)


def test_padding_touches_the_joint_normalisation_alone() -> None:
    spoilt = OURS.clone()
    spoilt[:, 1, 2] *= 100
    joint = float(hidden_sum(list(spoilt), list(THEIRS), MASK, "per-batch")) / 5
    assert joint == pytest.approx(2.1471965853265207, abs=1e-12)
    for layer_norm in ("none", "per-token"):
        clean = hidden_sum(list(OURS), list(THEIRS), MASK, layer_norm)
        assert float(hidden_sum(list(spoilt), list(THEIRS), MASK, layer_norm)) == float(clean)


def test_cosine_is_torchs() -> None:
    ours, theirs = OURS[0], THEIRS[0]
    rows = int(MASK.sum())
    expected = functional.cosine_embedding_loss(ours[MASK], theirs[MASK], torch.ones(rows), reduction="sum")
    assert float(cosine_sum(ours, theirs, MASK)) == pytest.approx(float(expected), rel=1e-12)
    assert float(cosine_sum(theirs, theirs, MASK)) == pytest.approx(0.0, abs=1e-12)


def test_attention_of_scores_is_tinyberts() -> None:
    """Without padding: TinyBERT's code, the sum over layers of the mean over all scores. With it: valid ones alone."""
    scores = torch.arange(72, dtype=torch.float64).reshape(2, 2, 2, 3, 3)  # (layers, B, heads, queries, keys)
    ours, theirs, every = list(scores.sin()), list(scores.cos()), torch.ones(2, 3, dtype=torch.bool)
    assert float(attention_sum(ours, theirs, every, every)) / 6 == pytest.approx(1.992031154218895, abs=1e-12)
    assert float(attention_sum(ours, theirs, MASK, MASK)) / 5 == pytest.approx(1.9882009280785096, abs=1e-12)


def test_attention_counts_valid_queries_and_keys_only() -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.softmax(torch.randn(2, 2, 3, 4, dtype=torch.float64), -1) for _ in range(2))
    keys = torch.tensor([[True, True, True, True], [True, True, False, False]])
    expected = 0.0
    for b in range(2):
        valid = ours[b][:, MASK[b]][:, :, keys[b]] - theirs[b][:, MASK[b]][:, :, keys[b]]  # (heads, queries, keys)
        expected += float(valid.square().mean(dim=(0, 2)).sum())
    assert float(attention_sum([ours], [theirs], MASK, keys)) == pytest.approx(expected, rel=1e-12)
    spoilt = ours.clone()
    spoilt[1, :, 2] = 5.0
    spoilt[1, :, :, 2:] = 5.0
    assert float(attention_sum([spoilt], [theirs], MASK, keys)) == pytest.approx(expected, rel=1e-12)
