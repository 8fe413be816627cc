"""A model in the form of onnxruntime: the logits of transformers on padded rows, scored and timed as it is served; and
what is said where it cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from distilc.runtime import available
from distilc.runtime.failure import Failure
from distilc.runtime.generation import speed
from distilc.runtime.models import onnx_form
from distilc.runtime.models.load import load_model, load_tokenizer
from distilc.runtime.plan.settings import BenchmarkSettings, ConvertSettings, EvaluateSettings, Served
from distilc.runtime.stages import benchmark, convert, evaluate
from distilc.runtime.tasks import forward_passes

from .test_classification import PAIRS, context_of, model_of, rows_of  # noqa: F401 (fixtures)

ROWS = [
    {"premise": premise * (1 + i % 2), "hypothesis": hypothesis, "label": label}
    for i in range(4)
    for premise, hypothesis, label in PAIRS
]


@pytest.fixture
def converted(tmp_path: Path, model_of: Callable[..., Path], rows_of: Callable[..., Path]) -> Callable[..., dict[str, Path]]:  # noqa: F811
    """(family, compute type) -> model, data and the model's form."""

    def make(family: str, compute_type: Any = "fp32") -> dict[str, Path]:
        model = model_of(family)
        inputs = {"model": model, "data": rows_of(model, ROWS)}
        settings = ConvertSettings(format="onnx", compute_type=compute_type, task="classification")
        context = context_of(convert, settings, inputs, tmp_path / f"form-{compute_type}")
        convert.run(context.stage, context)
        return {**inputs, "converted": context.folder}

    return make


def predictions(inputs: dict[str, Path], served: Served | None, folder: Path) -> list[dict[str, Any]]:
    settings = EvaluateSettings(
        task="classification", split="test", limit=None, metrics=("accuracy",), generation=None, precision="fp32",
        served=served,
    )  # fmt: skip
    context = context_of(evaluate, settings, inputs, folder)
    evaluate.run(context.stage, context)
    return [json.loads(line) for line in (folder / "predictions.test.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("family", ["bart", "bert", "roberta", "distilbert"])
def test_it_answers_as_the_model_does(family: str, converted: Any, tmp_path: Path) -> None:
    inputs = converted(family)
    record = json.loads((inputs["converted"] / "conversion.json").read_text("utf-8"))
    assert record["model_type"] == family and 0.0 < record["largest_difference"] <= 1e-4
    plain = predictions(inputs, None, tmp_path / "plain")
    served = predictions(inputs, Served(engine="onnx", compute_type="fp32"), tmp_path / "served")
    assert len({row["probabilities"]["neutral"] for row in plain}) == 10  # all pairs that there are
    assert [row["prediction"] for row in served] == [row["prediction"] for row in plain]
    for one, other in zip(served, plain, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)

    # As anyone serves it: onnxruntime and the tokenizer of the folder alone.
    tokenizer = load_tokenizer(inputs["converted"])
    session = onnxruntime.InferenceSession(str(inputs["converted"] / "model.onnx"), providers=["CPUExecutionProvider"])
    texts = [list(side) for side in zip(*[pair[:2] for pair in PAIRS], strict=True)]
    batch = tokenizer(*texts, padding=True, return_tensors="pt")
    named = {found.name: batch[found.name] for found in session.get_inputs()}
    with torch.inference_mode():
        expected = load_model(inputs["model"])(**named).logits
    found = session.run(["logits"], {name: tensor.numpy() for name, tensor in named.items()})[0]
    assert np.abs(found - expected.numpy()).max() <= 1e-4


def test_int8_is_scored_and_timed_as_it_is(converted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = converted("bert", "int8")
    assert not (inputs["converted"] / "fp32.onnx").exists()
    record = json.loads((inputs["converted"] / "conversion.json").read_text("utf-8"))
    assert 1e-4 < record["largest_difference"] < 1.0
    served = Served(engine="onnx", compute_type="int8")
    plain, found = predictions(inputs, None, tmp_path / "plain"), predictions(inputs, served, tmp_path / "served")
    changes = [abs(one["probabilities"]["neutral"] - other["probabilities"]["neutral"]) for one, other in zip(plain, found, strict=True)]
    assert max(changes) > 1e-4

    settings = BenchmarkSettings(
        task="classification", examples=20, batch_size=4, repeats=1, generation=None, precision="fp32", device="a CPU",
        served=served,
    )  # fmt: skip
    # In this process, and without waiting for a quiet machine.
    monkeypatch.setattr(speed, "wait_until_quiet", lambda: None)
    monkeypatch.setattr(forward_passes, "measure_alone", lambda job, on_pass: job.measure(on_pass))
    context = context_of(benchmark, settings, inputs, tmp_path / "timed")
    timed = benchmark.run(context.stage, context)
    assert (timed["engine"], timed["note"], timed["parameters"]) == ("onnx", "", None) and [*timed["engines"]] == ["onnx"]
    for times in timed["engines"]["onnx"]["latency_ms"].values():
        assert 0.0 < times["p5"] <= times["p50"] <= times["p95"]


def _without_mask(exported: Any, *inputs: torch.Tensor) -> torch.Tensor:
    batch = dict(zip(exported.names, inputs, strict=True))
    found: torch.Tensor = exported.model(**{**batch, "attention_mask": torch.ones_like(batch["attention_mask"])}).logits
    return found


def _with_another_bias(exported: Any, *inputs: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = exported.model(**dict(zip(exported.names, inputs, strict=True))).logits
    return found + 2e-4


@pytest.mark.parametrize("forward", [_without_mask, _with_another_bias])
def test_a_form_that_is_another_model_is_refused(forward: Any, converted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_form._Exported, "forward", forward)
    with pytest.raises(Failure, match="gives other logits") as caught:
        converted("distilbert")
    assert (caught.value.code, caught.value.spec_path) == ("R324", "evaluation.exports")


def test_missing_packages_are_named_with_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ConvertSettings(format="onnx", compute_type="int8", task="classification")
    plan: Any = SimpleNamespace(stages=[SimpleNamespace(settings=settings)])
    available.check_packages(plan)
    monkeypatch.setattr(available, "find_spec", lambda name: None if name.startswith("onnx") else object())
    with pytest.raises(Failure) as caught:
        available.check_packages(plan)
    assert caught.value.code == "R323"
    assert "onnxruntime and onnx, which are not installed" in caught.value.message
    assert caught.value.hint == "python -m pip install 'distilc[onnx]'"
    plan.stages[0].settings = ConvertSettings(format="ctranslate2", compute_type="int8")
    available.check_packages(plan)
