"""Stopping rules: whichever comes first, and the best validation."""

from __future__ import annotations

from dataclasses import replace

from distilc.runtime.plan.settings import StoppingSettings
from distilc.runtime.training.stopping import Stopping, is_better

SETTINGS = StoppingSettings(
    max_epochs=5.0,
    max_steps=None,
    max_hours=None,
    patience=2,
    monitor="rouge2",
    min_delta=0.1,
    retention=None,
)


def test_patience_counts_validations_without_improvement() -> None:
    stopping = Stopping(SETTINGS, {}, num_steps=100)
    assert stopping.validated({"rouge2": 10.0}, 10)
    assert not stopping.validated({"rouge2": 10.05}, 20)  # less than min_delta
    assert stopping.reason(20) is None
    assert not stopping.validated({"rouge2": 9.0}, 30)
    assert stopping.reason(30) == "no improvement of rouge2 in 2 validations"
    assert stopping.progress.best == 10.0 and stopping.progress.best_step == 10


def test_an_improvement_starts_patience_anew() -> None:
    stopping = Stopping(SETTINGS, {}, num_steps=100)
    for step, value in ((10, 10.0), (20, 9.0), (30, 11.0), (40, 10.0)):
        stopping.validated({"rouge2": value}, step)
    assert stopping.reason(40) is None


def test_less_loss_is_better() -> None:
    assert is_better("loss", 1.0, 2.0) and not is_better("loss", 2.0, 1.0)
    assert is_better("rouge2", 2.0, 1.0) and is_better("rouge2", 0.0, None)


def test_retention_is_a_share_of_the_teacher() -> None:
    settings = replace(SETTINGS, patience=None, retention={"rouge2": 99.0, "loss": 90.0})
    stopping = Stopping(settings, {"rouge2": 20.0, "loss": 1.8}, num_steps=100)
    stopping.validated({"rouge2": 19.7, "loss": 1.9}, 10)
    assert stopping.reason(10) is None
    stopping.validated({"rouge2": 19.9, "loss": 2.0}, 20)
    assert stopping.reason(20) == "retention reached (rouge2 99 %, loss 90 % of the teacher)"


def test_the_end_of_the_course_and_hours() -> None:
    stopping = Stopping(replace(SETTINGS, patience=None), {}, num_steps=100)
    assert stopping.reason(99) is None
    assert stopping.reason(100) == "max_epochs 5"
    stopping = Stopping(replace(SETTINGS, patience=None, max_steps=40), {}, num_steps=40)
    assert stopping.reason(40) == "max_steps 40"
    stopping = Stopping(replace(SETTINGS, max_hours=0.5), {}, num_steps=100)
    stopping.progress.seconds = 1801
    assert stopping.reason(3) == "max_hours 0.5"


def test_what_is_no_number_is_beaten_by_any() -> None:
    """A checkpoint of an earlier version may have kept one."""
    for nothing in (float("nan"), float("inf"), float("-inf")):
        assert is_better("loss", 3.0, nothing) and is_better("rouge2", 0.0, nothing)
