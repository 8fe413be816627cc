"""The course of a training: steps, validations and learning rates, known before the first step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from distilc.runtime.data.rows import Rows, write_rows
from distilc.runtime.failure import Failure
from distilc.runtime.plan.settings import (
    BatchSettings,
    GenerationSettings,
    LabelsTerm,
    Moment,
    ObjectiveSettings,
    OptimizerSettings,
    Schedule,
    StoppingSettings,
    TrainSettings,
    ValidationSettings,
)
from distilc.runtime.training.loop import _too_long
from distilc.runtime.training.step_schedule import ENDLESS, StepSchedule
from distilc.runtime.verify.schedules import telling_steps, values_at

GENERATION = GenerationSettings(
    engine="transformers", beams=None, length_penalty=None, min_length=None, max_length=None,
    no_repeat_ngram=None, early_stopping=None,
)  # fmt: skip
SETTINGS = TrainSettings(
    task="summarization",
    seed=7,
    precision="fp32",
    objective=ObjectiveSettings(
        labels=LabelsTerm(weight=1.0, smoothing=0.0), logits=None, hidden=None, attention=None, cosine=None,
        embedding=None, phi=None, own={},
    ),
    masking=None,
    extensions={},
    freeze=(),
    batch=BatchSettings(unit="examples", size=10),
    learning_rate=1.0,
    schedule="linear",
    warmup_steps=4,
    warmup_ratio=None,
    optimizer=OptimizerSettings(name="adamw", betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0),
    gradient_clipping=1.0,
    dropout=None,
    stopping=StoppingSettings(
        max_epochs=2.5,
        max_steps=None,
        max_hours=None,
        patience=None,
        monitor="loss",
        min_delta=0.0,
        retention=None,
    ),
    validation=ValidationSettings(
        every_epochs=0.5, every_steps=None, limit=None, metrics=("loss",), generation=GENERATION
    ),
    trainable_parameters=1,
)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    folder = tmp_path_factory.mktemp("rows")
    generator = np.random.default_rng(0)
    lengths = generator.integers(3, 30, (100, 2))
    texts = [{"id": str(i), "source": "", "target": ""} for i in range(100)]
    write_rows(
        folder, "train", [(range(s), range(t), text) for (s, t), text in zip(lengths, texts, strict=True)]
    )
    return Rows.open(folder, "train")


def test_an_epoch_sees_every_example_once(rows: Rows) -> None:
    step_schedule = StepSchedule(SETTINGS, rows)
    epoch = step_schedule.steps(after=0)
    assert sorted(int(i) for step in epoch for i in step.ids) == list(range(100))
    assert [step.number for step in epoch] == list(range(1, 11))


def test_part_of_an_epoch_counts_by_its_steps(rows: Rows) -> None:
    step_schedule = StepSchedule(SETTINGS, rows)
    assert step_schedule.num_steps == 25
    assert [step.number for step in step_schedule.steps(after=20)] == [21, 22, 23, 24, 25]
    assert step_schedule.steps(after=25) == []


def test_max_steps_cuts_the_course(rows: Rows) -> None:
    stopping = replace(SETTINGS.stopping, max_steps=13)
    assert StepSchedule(replace(SETTINGS, stopping=stopping), rows).num_steps == 13
    endless = replace(SETTINGS.stopping, max_epochs=None, max_steps=1234)
    assert StepSchedule(replace(SETTINGS, stopping=endless), rows).num_steps == 1234


def test_a_course_without_an_end_goes_on_at_its_peak(rows: Rows) -> None:
    stopping = replace(SETTINGS.stopping, max_epochs=None, max_steps=None, max_hours=1.0)
    step_schedule = StepSchedule(replace(SETTINGS, stopping=stopping, schedule="linear"), rows)
    assert step_schedule.num_steps == ENDLESS
    step = step_schedule.steps(after=1000)[0]
    assert step.number == 1001 and len(step.ids)
    assert step_schedule.learning_rate(1001) == pytest.approx(SETTINGS.learning_rate, rel=1e-6)


def test_validations_come_at_parts_of_an_epoch_and_at_the_end(rows: Rows) -> None:
    step_schedule = StepSchedule(SETTINGS, rows)
    due = [step.number for after in (0, 10, 20) for step in step_schedule.steps(after) if step.validate]
    assert due == [5, 10, 15, 20, 25]
    validation = replace(SETTINGS.validation, every_epochs=None, every_steps=7)
    step_schedule = StepSchedule(replace(SETTINGS, validation=validation), rows)
    due = [step.number for after in (0, 10, 20) for step in step_schedule.steps(after) if step.validate]
    assert due == [7, 14, 21, 25]


def test_resuming_in_the_middle_sees_the_same_examples(rows: Rows) -> None:
    whole = StepSchedule(SETTINGS, rows).steps(after=10)
    resumed = StepSchedule(SETTINGS, rows).steps(after=13)
    assert [step.ids.tolist() for step in resumed] == [step.ids.tolist() for step in whole[3:]]
    assert [step.number for step in resumed] == [14, 15, 16, 17, 18, 19, 20]


def test_epochs_differ_and_seeds_differ(rows: Rows) -> None:
    step_schedule = StepSchedule(SETTINGS, rows)
    first, second = step_schedule.steps(after=0), step_schedule.steps(after=10)
    other = StepSchedule(replace(SETTINGS, seed=8), rows).steps(after=0)
    assert [step.ids.tolist() for step in first] != [step.ids.tolist() for step in second]
    assert [step.ids.tolist() for step in first] != [step.ids.tolist() for step in other]


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", {1: 0.2, 4: 0.8, 5: 1.0, 25: 1.0}),
        ("linear", {1: 0.2, 4: 0.8, 5: 1.0, 15: 1 - 10 / 21, 25: 1 / 21}),
        ("cosine", {4: 0.8, 5: 1.0, 25: 0.0055845}),
        ("inverse-sqrt", {4: 0.8, 5: 1.0, 17: 0.5}),
    ],
)
def test_learning_rates(rows: Rows, schedule: str, rates: dict[int, float]) -> None:
    step_schedule = StepSchedule(replace(SETTINGS, schedule=schedule), rows)  # type: ignore[arg-type]
    for step, rate in rates.items():
        assert step_schedule.learning_rate(step) == pytest.approx(rate, abs=1e-6)


def moment(**given: float) -> Moment:
    return Moment(**{"epochs": None, "steps": None, "ratio": None, **given})  # type: ignore[arg-type]


def changing(**schedules: Schedule) -> TrainSettings:
    named = {name.replace("__", "."): schedule for name, schedule in schedules.items()}
    return replace(SETTINGS, objective=replace(SETTINGS.objective, schedules=named))


def test_moments_of_a_schedule_are_steps_of_the_course(rows: Rows) -> None:
    """25 steps, ten an epoch; beyond the end epochs are counted on."""
    settings = changing(
        labels__weight=Schedule(initial=1.0, final=0.5, shape="linear", begin=moment(steps=0), end=moment(ratio=0.4)),
        logits__weight=Schedule(
            initial=0.0, final=0.8, shape="cosine", begin=moment(epochs=0.5), end=moment(epochs=1.5)
        ),
        cosine=Schedule(initial=0.0, final=1.0, shape="linear", begin=moment(epochs=0.5), end=moment(epochs=4)),
        embedding=Schedule(initial=0.0, final=1.0, shape="step", begin=moment(epochs=1), end=None),
    )
    step_schedule = StepSchedule(settings, rows)
    spans = {path: (change.begin, change.end) for path, change in step_schedule.changes.items()}
    assert spans == {"labels.weight": (0, 10), "logits.weight": (5, 15), "cosine": (5, 40), "embedding": (10, 11)}
    expected = {"labels.weight": 0.6, "logits.weight": 0.16488589908301077, "cosine": 3 / 35, "embedding": 0.0}
    assert step_schedule.scheduled(8) == pytest.approx(expected, abs=1e-12)
    schedules = settings.objective.schedules
    for step in range(1, 26):  # a training that goes on asks a course made anew; `verify` counts for itself
        assert StepSchedule(settings, rows).scheduled(step) == step_schedule.scheduled(step)
        assert values_at(schedules, step_schedule, step) == pytest.approx(step_schedule.scheduled(step), abs=1e-12)
    assert telling_steps(schedules, step_schedule) == [5, 10, 11, 22]


def test_a_schedule_that_ends_before_it_begins_is_refused(rows: Rows) -> None:
    late = Schedule(initial=4.0, final=1.0, shape="cosine", begin=moment(steps=21), end=moment(epochs=2))
    with pytest.raises(Failure) as caught:
        StepSchedule(changing(logits__temperature=late), rows)
    assert caught.value.code == "R350" and caught.value.spec_path == "loss.logits.temperature"
    assert "begins after step 21 and ends at step 20" in caught.value.message
    with pytest.raises(Failure) as caught:
        StepSchedule(changing(logits__temperature=late), rows, "teacher.train.")
    assert caught.value.spec_path == "teacher.train.loss.logits.temperature"


def test_a_warm_up_that_the_training_ends_within_is_told(rows: Rows) -> None:
    """How many steps there are is known with the rows, at the latest."""
    notice = _too_long(StepSchedule(replace(SETTINGS, warmup_steps=25), rows), "training")  # of 25
    assert notice is not None and (notice.code, notice.spec_path) == ("R358", "training.warmup")
    assert "takes 25 steps, and the training ends after 25" in notice.message and "never exceeds 0.96" in notice.message
    assert _too_long(StepSchedule(replace(SETTINGS, warmup_steps=24), rows), "training") is None
    of_teacher = _too_long(StepSchedule(replace(SETTINGS, warmup_steps=25), rows), "teacher.train.training")
    assert of_teacher is not None and of_teacher.spec_path == "teacher.train.training.warmup"
    endless = replace(SETTINGS.stopping, max_epochs=None)
    assert _too_long(StepSchedule(replace(SETTINGS, warmup_steps=500, stopping=endless), rows), "training") is None
