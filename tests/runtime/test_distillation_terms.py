"""The distillation terms against reference numbers (float64, computed apart) and plain formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from distilc.runtime.objective.attention import attention_sum
from distilc.runtime.objective.divergence import DIVERGENCES, divergence_sum
from distilc.runtime.objective.hidden import cosine_sum, hidden_sum

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


@pytest.mark.parametrize("divergence", DIVERGENCES)
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
