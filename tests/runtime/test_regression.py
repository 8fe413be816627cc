"""Regression: targets are numbers, the loss is transformers' own, and the mean of the training set is the baseline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from distilc.runtime.data.rows import Rows
from distilc.runtime.extensions import TASKS
from distilc.runtime.failure import Failure
from distilc.runtime.models.build import build
from distilc.runtime.models.load import load_model, load_tokenizer
from distilc.runtime.models.save import save_model
from distilc.runtime.objective.objective import Objective, factors_of
from distilc.runtime.plan.settings import EvaluateSettings, LabelsTerm, ObjectiveSettings
from distilc.runtime.stages import evaluate

from .test_classification import PAIRS, context_of, model_of, rows_of, sizes  # noqa: F401 (fixtures)

REGRESSION = TASKS["regression"]
NUMBERS = [4.5, -100.0, 0, 2.25, 1e3]  # -100 is a number as any other
LABELS = ObjectiveSettings(
    labels=LabelsTerm(weight=1.0, smoothing=0.0), logits=None, hidden=None, attention=None, cosine=None,
    embedding=None, own={}, phi=None,
)  # fmt: skip


def rows(numbers: Any = tuple(NUMBERS)) -> list[dict[str, Any]]:
    return [
        {"premise": premise, "hypothesis": hypothesis, "label": number}
        for (premise, hypothesis, _), number in zip(PAIRS, numbers, strict=True)
    ]


@pytest.fixture
def model_folder(tmp_path: Path, model_of: Callable[..., Path]) -> Callable[[str], Path]:  # noqa: F811
    """family -> the folder of a model with one output."""

    def make(family: str) -> Path:
        tokenizer = model_of(family, None)
        config = {"vocab_size": 330, "max_position_embeddings": 66, **sizes(family)}
        model = build(family, config, 3, load_tokenizer(tokenizer), 1)
        folder = tmp_path / f"one-{family}"
        save_model(model, folder, tokenizer=tokenizer)
        return folder

    return make


@pytest.fixture
def data_of(rows_of: Callable[..., Path]) -> Callable[..., Path]:  # noqa: F811
    return lambda model, found=None: rows_of(model, found or rows(), None, task="regression")


@pytest.mark.parametrize("family", ["bart", "bert", "roberta", "distilbert"])
def test_the_loss_is_that_of_transformers(family: str, model_folder: Any, data_of: Any) -> None:
    folder = model_folder(family)
    found = Rows.open(data_of(folder), "train")
    tokenizer, model, plain = load_tokenizer(folder), load_model(folder), load_model(folder)
    objective = Objective(model, LABELS, ()).eval()
    ids = np.arange(5)
    batch = REGRESSION.collate(found, ids, tokenizer.pad_token_id)
    assert batch["labels"].dtype == torch.float32 and batch["labels"].tolist() == NUMBERS
    share, _ = objective(batch, factors_of(REGRESSION.num_items(found, ids), world=1))
    share.backward()
    plain.config.problem_type = "regression"
    loss = plain(**{name: of for name, of in batch.items() if name != "token_type_ids" or family == "bert"}).loss
    loss.backward()
    assert float(share.detach()) == pytest.approx(float(loss.detach()), rel=1e-6)
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-3, rtol=1e-4, msg=name)
    summed, number = objective.label_loss(batch).tolist()
    assert number == 5 and summed / 5 == pytest.approx(float(loss.detach()), rel=1e-6)
    none = REGRESSION.collate(found, ids[:0], tokenizer.pad_token_id)  # of a rank without examples
    share, raw = objective(none, factors_of({"label-tokens": 5, "source-tokens": 5, "examples": 5}, world=1))
    assert float(share.detach()) == 0.0 and float(raw["labels"]) == 0.0
    assert objective.label_loss(none).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("good", "rows.jsonl:3: the column 'label' holds 'good', which is not a finite number"),
        (float("nan"), "which is not a finite number"),
        ("-inf", "which is not a finite number"),
        (True, "which is not a finite number"),
        (1e39, "which is not a finite number"),  # of float32
        (10**400, "which is not a finite number"),
        (None, "rows.jsonl:3: the column 'label' is empty"),
        (" ", "the column 'label' is empty"),
    ],
)
def test_a_target_that_is_no_number(number: Any, words: str, model_folder: Any, data_of: Any) -> None:
    with pytest.raises(Failure) as caught:
        data_of(model_folder("bert"), rows([1, 2, number, 3, 4]))
    assert caught.value.code == "R203" and words in caught.value.message, caught.value.message


def test_numbers_of_a_table_are_texts(model_folder: Any, data_of: Any) -> None:
    found = Rows.open(data_of(model_folder("bert"), rows(["4.5", " 2 ", "1e1", "-0.5", "3"])), "validation")
    assert [float(found.target(i)[0]) for i in range(5)] == [4.5, 2.0, 10.0, -0.5, 3.0]
    assert found.raw(2)["target"] == "10.0"


def test_an_evaluation(tmp_path: Path, model_folder: Any, data_of: Any) -> None:
    folder = model_folder("bert")
    settings = EvaluateSettings(
        task="regression", split="test", limit=None, metrics=("spearman", "loss", "pearson"), generation=None,
        precision="fp32",
    )  # fmt: skip
    context = context_of(evaluate, settings, {"model": folder, "data": data_of(folder)}, tmp_path / "evaluated")
    evaluate.run(context.stage, context)
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    with torch.no_grad():
        expected = [float(model(**tokenizer(*pair[:2], return_tensors="pt")).logits[0, 0]) for pair in PAIRS]
    told = [json.loads(line) for line in (context.folder / "predictions.test.jsonl").read_text("utf-8").splitlines()]
    assert [line["prediction"] for line in told] == pytest.approx(expected, abs=1e-5)
    assert [line["reference"] for line in told] == NUMBERS
    found = json.loads((context.folder / "metrics.json").read_text("utf-8"))
    assert found["test"]["pearson"]["value"] == pytest.approx(100 * stats.pearsonr(expected, NUMBERS)[0], abs=1e-2)
    assert found["test"]["spearman"]["value"] == pytest.approx(100 * stats.spearmanr(expected, NUMBERS)[0], abs=1e-6)
    squares = np.square(np.array(expected) - NUMBERS)
    assert found["test"]["loss"]["value"] == pytest.approx(squares.mean(), rel=1e-5)
    baseline = found["baselines"]["mean"]["test"]
    assert baseline["pearson"]["value"] == 0.0
    assert baseline["loss"]["value"] == pytest.approx(np.var(NUMBERS))  # train and test are the same rows here


def test_a_student_says_that_it_predicts_a_number(
    model_folder: Any, data_of: Any, model_of: Any, tmp_path: Path  # noqa: F811
) -> None:
    folder = model_folder("distilbert")
    data, student = data_of(folder), load_model(folder)
    REGRESSION.configure(student, None, data)
    assert student.config.problem_type == "regression" and student.config.num_labels == 1
    with pytest.raises(Failure, match="the head of the teacher has 3 outputs, and a regression has one"):
        REGRESSION.configure(student, load_model(model_of("distilbert", None)), data)
    from transformers import pipeline

    save_model(student, tmp_path / "student", tokenizer=folder)
    (found,) = pipeline("text-classification", model=str(tmp_path / "student"), device="cpu")("Rain fell.")
    with torch.no_grad():
        number = float(student.eval()(**load_tokenizer(folder)("Rain fell.", return_tensors="pt")).logits[0, 0])
    assert found["score"] == pytest.approx(number, abs=1e-6)
