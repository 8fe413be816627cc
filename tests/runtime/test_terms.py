"""The terms against reference numbers (float64, computed apart) and plain formulas."""

from __future__ import annotations

import pytest
import torch

from distilc.runtime.models.families import IGNORED
from distilc.runtime.objective.terms import labels_term

# logits sin(0..29) of shape (2, 3, 5); label 1 is the padding of the reference
LOGITS = torch.sin(torch.arange(30, dtype=torch.float64)).reshape(2, 3, 5)
LABELS = torch.tensor([[IGNORED, 2, 3], [4, 0, IGNORED]])


def test_labels_term_is_the_reference_cross_entropy() -> None:
    mean = labels_term(LOGITS, LABELS, smoothing=0.0) / 4
    assert float(mean) == pytest.approx(1.2567258236820287, abs=1e-6)


def test_label_smoothing_is_the_mean_form() -> None:
    summed = labels_term(LOGITS, LABELS, smoothing=0.1)
    assert float(summed) == pytest.approx(5.262118073859754, abs=1e-6)
    assert float(summed / 4) == pytest.approx(1.3155295184649383, abs=1e-6)


def test_a_batch_without_labels_contributes_nothing() -> None:
    logits = LOGITS.float().requires_grad_()
    loss = labels_term(logits, torch.full((2, 3), IGNORED), smoothing=0.1)
    loss.backward()
    assert float(loss) == 0.0
    assert logits.grad is not None and float(logits.grad.abs().sum()) == 0.0
