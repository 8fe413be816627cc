"""Numbers of the loss that change: their values at every step, and an objective that follows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distilc.runtime.models.load import load_model
from distilc.runtime.objective.objective import Objective, factors_of
from distilc.runtime.objective.teacher import Teacher
from distilc.runtime.plan.settings import (
    HiddenTerm,
    LabelsTerm,
    LayerMaps,
    LogitsTerm,
    Moment,
    ObjectiveSettings,
    Schedule,
)
from distilc.runtime.training.schedule import Change, changes_of

START = Moment(epochs=None, steps=0, ratio=None)
LOGITS = LogitsTerm(weight=0.8, temperature=4.0, divergence="forward-kl", beta=None, alpha=None, positions=None)
OFF: dict[str, Any] = dict.fromkeys(("labels", "logits", "hidden", "attention", "cosine", "embedding", "phi"))


def schedule(initial: float, final: float, shape: Any, begin: Any = START, **end: Any) -> Schedule:
    moment = Moment(**{"epochs": None, "steps": None, "ratio": None, **end}) if end else None
    return Schedule(initial=initial, final=final, shape=shape, begin=begin, end=moment)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", [0.0, 0.0, 0.2, 0.4, 0.6, 0.8, 0.8]),
        ("cosine", [0.0, 0.0, 0.11715728752538099, 0.4, 0.682842712474619, 0.8, 0.8]),
    ],
)
def test_values_between_begin_and_end(shape: str, expected: list[float]) -> None:
    change = Change(0.0, 0.8, shape, begin=10, end=14)
    assert [change.at(step) for step in (1, 10, 11, 12, 13, 14, 1000)] == pytest.approx(expected, abs=1e-15)


def test_a_step_changes_after_its_begin() -> None:
    (change,) = changes_of({"cosine": schedule(0.5, 0.0, "step", Moment(epochs=None, steps=3, ratio=None))}, 9, int).values()
    assert [change.at(step) for step in (1, 3, 4, 9)] == [0.5, 0.5, 0.0, 0.0]


# --- the objective that follows them ------------------------------------------------------------------


BATCH = {
    "input_ids": torch.tensor([[5, 6, 7], [8, 9, 1]]),
    "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
    "labels": torch.tensor([[5, 6, -100], [7, 8, 9]]),
}
COUNTS: Any = {"label-tokens": 5, "source-tokens": 5, "examples": 2}
BOTH = ObjectiveSettings(
    **{**OFF, "labels": LabelsTerm(weight=1.0, smoothing=0.0), "logits": LOGITS, "phi": LayerMaps(encoder=None, decoder=(1, 2))},
    own={},
    schedules={
        "labels.weight": schedule(1.0, 0.2, "linear", steps=10),
        "logits.weight": schedule(0.0, 0.8, "linear", steps=10),
        "logits.temperature": schedule(4.0, 1.0, "linear", steps=10),
    },
)  # fmt: skip
Models = tuple[Any, Any]


@pytest.fixture
def models(tiny_model_folder: Callable[..., Path]) -> Models:
    """A student of two decoder layers and a teacher of three, in float64, without dropout."""
    torch.manual_seed(0)
    student, teacher = (load_model(tiny_model_folder("bart", 2, depth)).double().eval() for depth in (2, 3))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return student, teacher


def objective_of(models: Models, settings: ObjectiveSettings) -> Objective:
    return Objective(models[0], settings, (), Teacher(models[1])).eval()


def gradients(objective: Objective) -> tuple[float, dict[str, Tensor], dict[str, float]]:
    objective.zero_grad()
    share, raw = objective(BATCH, factors_of(COUNTS, 1))
    share.backward()
    found = {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
    return float(share.detach()), found, {name: float(value) for name, value in raw.items()}


def test_the_objective_is_that_of_the_numbers_of_the_step(models: Models) -> None:
    """Weight, T inside the softmax and T² outside: as if the plan had these numbers."""
    changing = objective_of(models, BOTH)
    assert changing.weights() == {"labels": 1.0, "logits": 0.8}  # before a step is named: the larger ends
    changing.go_to({"labels.weight": 0.6, "logits.weight": 0.4, "logits.temperature": 2.5})
    assert changing.weights() == {"labels": 0.6, "logits": 0.4}
    found, slopes, raw = gradients(changing)
    plain = replace(
        BOTH, labels=LabelsTerm(weight=0.6, smoothing=0.0), logits=replace(LOGITS, weight=0.4, temperature=2.5), schedules={}
    )
    expected, wanted, terms = gradients(objective_of(models, plain))
    assert (found, raw) == (expected, terms) and all(torch.equal(slopes[name], wanted[name]) for name in wanted)
    changing.go_to({})
    assert changing.weights() == {"labels": 1.0, "logits": 0.8}


def test_a_term_of_weight_0_is_computed_and_adds_nothing(models: Models) -> None:
    objective = objective_of(models, BOTH)
    objective.go_to({"logits.weight": 0.0, "logits.temperature": 4.0})
    found, slopes, raw = gradients(objective)
    alone = replace(BOTH, logits=None, schedules={})
    expected, wanted, _ = gradients(objective_of(models, alone))
    assert found == expected and raw["logits"] > 0
    assert all(torch.equal(slopes[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("of_logits", [True, False])
def test_a_slope_that_is_no_number_stays_out_while_the_weight_is_0(models: Models, of_logits: bool) -> None:
    """The root of 0 has no slope, and 0 times that is no number. What only this term reaches gets a gradient of 0."""
    settings = replace(BOTH, labels=None, logits=LOGITS, schedules={"logits.weight": schedule(0.0, 0.8, "step")})
    if not of_logits:
        settings = replace(
            BOTH, logits=None, hidden=HiddenTerm(encoder=0.0, decoder=3.0, layer_norm="none", align="outputs"),
            schedules={"hidden.decoder": schedule(0.0, 3.0, "step")},
        )  # fmt: skip
    objective = objective_of(models, settings)

    def rooted(inputs: Any, term_settings: Any) -> Tensor:
        states = inputs.student.logits if of_logits else inputs.student.decoder_layers[0]
        return (states * 0.0).abs().sqrt().sum()

    for name in ("logit_terms", "other_terms"):
        terms = [
            replace(active, term=replace(active.term, sum=rooted)) if active.name != "labels" else active
            for active in getattr(objective, name)
        ]
        setattr(objective, name, terms)
    path = next(iter(settings.schedules))
    objective.go_to({path: 0.0})
    _, slopes, _ = gradients(objective)
    assert slopes and all(bool(slope.isfinite().all()) for slope in slopes.values())
    if of_logits:
        assert not any(bool(slope.any()) for slope in slopes.values())
    objective.go_to({})
    _, slopes, _ = gradients(objective)
    assert not all(bool(slope.isfinite().all()) for slope in slopes.values())
