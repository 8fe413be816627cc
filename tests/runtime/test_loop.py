"""How a training ends: what time cuts short is validated, what is not finite stops it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distilc.runtime.failure import Failure
from distilc.runtime.plan.load import load_plan
from distilc.runtime.plan.settings import StoppingSettings
from distilc.runtime.training import loop
from distilc.runtime.training.checkpoint import MARKER
from distilc.runtime.training.step import _update
from distilc.runtime.training.stopping import Progress, Stopping

SETTINGS = StoppingSettings(
    max_epochs=None, max_steps=100, max_hours=1.0, patience=None, monitor="loss", min_delta=0.0, retention=None
)  # fmt: skip


class Case:
    """A training of steps that take `seconds` each, with a validation after every 5th; what it kept, and what was saved
    after which step. `scores`: of its validations, in order."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, scores: list[Mapping[str, float]]) -> None:
        self.kept: list[int] = []
        self.saved: list[tuple[int, dict[str, Any]]] = []
        self.validated: list[int] = []
        self.now = 0.0
        self.scores = list(scores)
        planned = [SimpleNamespace(number=n, validate=n % 5 == 0) for n in range(1, 101)]
        context = SimpleNamespace(
            scratch=folder, gather=lambda value: [value], stop_requested=lambda: False, is_rank_zero=True,
            stage=SimpleNamespace(id="train", section="", optimization="training", execution=SimpleNamespace(save_minutes=None)),
            progress=SimpleNamespace(task=lambda *_: _Task()),
        )  # fmt: skip
        stopping = Stopping(SETTINGS, {}, 100)
        self.training: Any = SimpleNamespace(
            context=context, stopping=stopping, settings=SimpleNamespace(stopping=SETTINGS),
            step_schedule=SimpleNamespace(num_steps=100, steps=lambda after: planned[after:]),
            state=lambda: stopping.progress.state(), plain_student=nullcontext,
        )  # fmt: skip

        def step(*_: Any) -> None:
            self.now += seconds

        def validate(_: Any, step: int) -> Mapping[str, float]:
            self.validated.append(step)
            return self.scores.pop(0)

        monkeypatch.setattr(loop, "train_step", step)
        monkeypatch.setattr(loop, "validate", validate)
        monkeypatch.setattr(loop, "_keep_best", lambda _: self.kept.append(self.validated[-1]))
        monkeypatch.setattr(loop, "_Record", _Record)
        monkeypatch.setattr(loop.time, "monotonic", lambda: self.now)

    def run(self, step: int = 0) -> None:
        checkpoints: Any = SimpleNamespace(save=lambda step, state: self.saved.append((step, state)))
        loop._run(self.training, checkpoints, step)


class _Task:
    def __enter__(self) -> Any:
        return lambda *_: None

    def __exit__(self, *_: Any) -> None:
        pass


class _Record:
    note = ""

    def __init__(self, _: Any) -> None:
        pass

    def flush(self) -> None:
        pass

    def pause(self) -> None:
        pass

    def go_on(self) -> None:
        pass


def test_time_that_is_up_before_the_first_validation_ends_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, monkeypatch, 1300.0, [{"loss": 2.0}])
    case.run()
    assert case.validated == case.kept == [3]
    step, state = case.saved[-1]
    assert (step, state["best"], state["best_step"], state["validated_step"]) == (3, 2.0, 3, 3)


def test_what_was_trained_after_the_last_validation_is_not_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, monkeypatch, 500.0, [{"loss": 2.0}, {"loss": 1.0}])
    case.run()
    assert case.validated == case.kept == [5, 8]


def test_a_training_that_ends_at_a_validation_has_no_second_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, monkeypatch, 720.0, [{"loss": 2.0}])
    case.run()
    assert case.validated == [5]


def test_an_end_without_a_validation_is_mended_when_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last checkpoint was saved with its time up and nothing validated."""
    case = Case(tmp_path, monkeypatch, 1.0, [{"loss": 2.0}])
    case.training.stopping.progress = Progress(seconds=4000.0)
    case.run(step=3)
    assert case.kept == [3] and case.saved[-1][1]["best"] == 2.0
    case.run(step=3)  # and once more, after all was done
    assert case.kept == [3]


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_validation_without_a_number_is_never_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: bool) -> None:
    if checkpoint:
        (tmp_path / MARKER).write_text(json.dumps({"step": 4}))
    case = Case(tmp_path, monkeypatch, 1.0, [{"loss": math.nan}])
    with pytest.raises(Failure) as caught:
        case.run()
    assert caught.value.code == "R301" and not case.kept and not case.saved
    kept = "the last checkpoint is kept" if checkpoint else "there was no checkpoint yet"
    assert caught.value.message == f"the validation after step 5 gives no finite loss; {kept}"


@pytest.mark.parametrize("id", ["train", "teacher-train", "large/teacher-train"])
@pytest.mark.parametrize(
    "said",
    [
        "value cannot be converted to type float without overflow",
        "Current loss scale already at minimum - cannot decrease scale anymore. Exiting run.",
    ],
)
def test_an_update_that_float32_has_no_room_for_is_a_diagnosis(tmp_path: Path, said: str, id: str) -> None:
    """It points at the learning rate of the model that was trained."""

    def step() -> None:
        raise RuntimeError(said)

    stage = replace(load_plan(Path(__file__).with_name("sample_plan.json")).stage("train"), id=id)
    context = SimpleNamespace(scratch=tmp_path, stage=stage)
    training: Any = SimpleNamespace(engine=SimpleNamespace(step=step), context=context)
    with pytest.raises(Failure) as caught:
        _update(training, SimpleNamespace(number=7))  # type: ignore[arg-type]
    assert caught.value.code == "R301" and "step 7" in caught.value.message
    path = "training.learning_rate" if id == "train" else "teacher.train.training.learning_rate"
    assert caught.value.spec_path == path and caught.value.hint.startswith(f"lower {path},")
