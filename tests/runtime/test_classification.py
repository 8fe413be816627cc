"""Classification: labels by name, pairs of texts as their tokenizer lays them out, the loss and the classes of plain
transformers, for BART, BERT, RoBERTa and DistilBERT."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from distilc.runtime.data.classes import name_outputs, read_classes
from distilc.runtime.data.rows import Rows
from distilc.runtime.data.train_tokenizer import train_tokenizer
from distilc.runtime.execution.context import Context, Journal, Progress
from distilc.runtime.extensions import TASKS
from distilc.runtime.failure import Failure
from distilc.runtime.messages.notices import FILE, Notices, read_notices
from distilc.runtime.models.build import build
from distilc.runtime.models.families import FAMILIES
from distilc.runtime.models.load import load_model, load_tokenizer
from distilc.runtime.models.save import save_model
from distilc.runtime.objective.objective import Objective, factors_of
from distilc.runtime.plan.plan import Execution, Stage
from distilc.runtime.plan.settings import (
    BenchmarkSettings,
    Columns,
    DataSettings,
    EvaluateSettings,
    LabelsTerm,
    ObjectiveSettings,
    Source,
)
from distilc.runtime.stages import benchmark, data, evaluate

TASK = TASKS["classification"]
NLI = ("contradiction", "neutral", "entailment")
GLUE = ("entailment", "neutral", "contradiction")
COLUMNS = Columns(source="premise", hypothesis="hypothesis", target="label", id=None)
PAIRS = [
    ("A cat sleeps on the warm roof of the old house.", "A cat is awake.", "contradiction"),
    ("Two men play chess in the park.", "Two men sit in a park.", "neutral"),
    ("Rain fell all night.", "It was wet in the morning.", "entailment"),
    ("The shop is shut.", "The shop sells bread.", "neutral"),
    ("She sold the car.", "She owned a car.", "entailment"),
]
FAMILY_NAMES = ("bart", "bert", "roberta", "distilbert")


def sizes(family: str) -> dict[str, Any]:
    if family == "bart":
        return {
            "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "init_std": 0.3,
        }  # fmt: skip
    if family == "distilbert":
        return {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "initializer_range": 0.3}
    return {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "initializer_range": 0.3,
    }  # fmt: skip


@pytest.fixture
def model_of(tmp_path: Path) -> Callable[..., Path]:
    """(family, names of the outputs, None: numbers) -> the folder of a classifier with a tokenizer of its family."""

    def make(family: str, names: Sequence[str] | None = NLI) -> Path:
        folder = tmp_path / f"{family}-{'-'.join(names or ('numbers',))}"
        tokenizer = tmp_path / f"tokenizer-{family}"
        if not tokenizer.is_dir():
            texts = [text for pair in PAIRS for text in pair[:2]] * 4
            train_tokenizer(texts, "bpe", 320, FAMILIES[family], 64).save_pretrained(tokenizer)
        config = {"vocab_size": 330, "max_position_embeddings": 66, **sizes(family)}
        model = build(family, config, 3, load_tokenizer(tokenizer), 3)
        if names is not None:
            name_outputs(model.config, names)
        save_model(model, folder, tokenizer=tokenizer)
        return folder

    return make


@pytest.fixture
def rows_of(tmp_path: Path) -> Callable[..., Path]:
    """(model folder, rows as the file has them, `data.labels`, other settings) -> the artifact of the data stage."""

    def make(model: Path, rows: Sequence[dict[str, Any]], labels: Sequence[str] | None = NLI, **changes: Any) -> Path:
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        hashed = hashlib.sha256(file.read_bytes()).hexdigest()
        sources = (
            Source(kind="files", name=None, config=None, revision=None, split=None, fingerprints=(hashed,), limit=None),
        )
        given: dict[str, Any] = {
            "task": "classification", "train": sources, "validation": sources, "test": {"test": sources},
            "columns": COLUMNS, "max_source_tokens": 60, "max_target_tokens": 8, "prefix": "", "source_language": None,
            "target_language": None, "labels": None if labels is None else tuple(labels),
        }  # fmt: skip
        context = context_of(data, DataSettings(**{**given, **changes}), {"tokenizer": model}, tmp_path / "data")
        context.stage.execution.locations[hashed] = str(file)  # type: ignore[index]
        data.run(context.stage, context)
        return context.folder

    return make


def context_of(module: Any, chosen: Any, inputs: dict[str, Path], folder: Path, id: str | None = None) -> Context:
    kind = module.__name__.rpartition(".")[2]
    execution = Execution(locations={}, micro_batch_tokens=None, save_minutes=None, deepspeed=None)
    stage = Stage(id=id or kind, kind=kind, key="0" * 64, needs={}, settings=chosen, execution=execution)
    folder.mkdir(exist_ok=True)
    plan: Any = SimpleNamespace(site=SimpleNamespace(offline=True))
    return Context(
        plan=plan, stage=stage, folder=folder, scratch=folder / ".scratch", inputs=inputs, rank=0, world=1,
        device="cpu", journal=Journal(None), progress=Progress(None, kind), notices=Notices(folder / FILE),
    )  # fmt: skip


def rows(labels: Sequence[Any] = tuple(pair[2] for pair in PAIRS)) -> list[dict[str, Any]]:
    return [
        {"premise": premise, "hypothesis": hypothesis, "label": label}
        for (premise, hypothesis, _), label in zip(PAIRS, labels, strict=True)
    ]


def numbers(folder: Path) -> list[int]:
    found = Rows.open(folder, "train")
    return [int(found.target(i)[0]) for i in range(len(found))]


# --- labels ------------------------------------------------------------------------------------------


def test_labels_go_by_name_in_the_order_of_the_model(model_of: Any, rows_of: Any) -> None:
    """Whoever counts otherwise: the data, the spec, or the model."""
    expected = [NLI.index(label) for _, _, label in PAIRS]
    assert expected == [0, 1, 2, 1, 2]
    assert numbers(rows_of(model_of("bart"), rows())) == expected
    counted = [GLUE.index(label) for _, _, label in PAIRS]
    assert counted == [2, 1, 0, 1, 0]  # 2 - the model's
    found = rows_of(model_of("bart"), rows(counted), GLUE)
    assert numbers(found) == expected and read_classes(found) == NLI
    assert numbers(rows_of(model_of("bart"), rows([str(number) for number in counted]), GLUE)) == expected  # of a CSV
    other = model_of("bart", GLUE)
    found = rows_of(other, rows(expected), NLI)
    assert numbers(found) == counted and read_classes(found) == GLUE
    shouted = rows([label.upper() for _, _, label in PAIRS])
    assert numbers(rows_of(model_of("bart"), shouted, None)) == expected  # the model alone names them
    assert Rows.open(found, "train").raw(0)["target"] == "contradiction"
    nameless = rows_of(model_of("bart", None), rows(), GLUE)
    assert numbers(nameless) == counted and read_classes(nameless) == GLUE  # then the spec's order is the outputs'


@pytest.mark.parametrize(
    ("labels", "spec", "names", "code", "words"),
    [
        (["maybe", "neutral", "neutral", "neutral", "neutral"], NLI, NLI, "R207", "rows.jsonl:1 is 'maybe', which is none of the 3"),
        ([0, 1, 3, 1, 2], NLI, NLI, "R207", "rows.jsonl:3 is '3', which is none of the 3 classes contradiction, neutral,"),
        ([0, 1, 2, 1, 2], None, NLI, "R207", "the number 0, and the classes have names: contradiction, neutral, entailment"),
        (["neutral"] * 5, None, None, "R207", "neither the spec nor the model says"),
        ([0, 1, -1, 1, 2], NLI, NLI, "R207", "rows.jsonl:3 has no label"),
        ([None, 1, 1, 1, 1], NLI, NLI, "R203", "the column 'label' is empty"),
        ([0.5, 1, 1, 1, 1], NLI, NLI, "R203", "holds 0.5, and a label is the name of a class, or its number"),
    ],
)  # fmt: skip
def test_a_label_that_is_none(
    labels: list[Any], spec: Any, names: Any, code: str, words: str, model_of: Any, rows_of: Any
) -> None:
    with pytest.raises(Failure) as caught:
        rows_of(model_of("bart", names), rows(labels), spec)
    assert caught.value.code == code and words in caught.value.message, caught.value.message


# --- rows --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_pairs_are_those_of_the_tokenizer(family: str, model_of: Any, rows_of: Any) -> None:
    model = model_of(family)
    folder, tokenizer = rows_of(model, rows()), load_tokenizer(model)
    found = Rows.open(folder, "train")
    batch = TASK.collate(found, np.arange(5), tokenizer.pad_token_id)
    expected = tokenizer(
        [pair[0] for pair in PAIRS], [pair[1] for pair in PAIRS], padding=True, return_tensors="pt",
    )  # fmt: skip
    for name in ("input_ids", "attention_mask"):
        assert torch.equal(batch[name], expected[name])
    if family == "bert":  # its tokenizer marks the second text
        assert expected["token_type_ids"].sum() > 0
        assert torch.equal(batch["token_type_ids"], expected["token_type_ids"])
    else:
        assert "token_type_ids" not in batch
    assert batch["labels"].tolist() == [0, 1, 2, 1, 2]
    assert TASK.num_items(found, np.array([0, 2])) == {
        "label-tokens": 2, "examples": 2, "source-tokens": len(found.source(0)) + len(found.source(2))
    }  # fmt: skip
    none = TASK.collate(found, np.array([], int), tokenizer.pad_token_id)
    assert none["labels"].tolist() == [-100] and none["attention_mask"].tolist() == [[0]]
    assert found.raw(1) == {
        "id": "train-1", "source": PAIRS[1][0], "hypothesis": PAIRS[1][1], "target": "neutral"
    }  # fmt: skip


def test_long_pairs_are_cut_longest_first_and_keep_their_special_tokens(model_of: Any, rows_of: Any) -> None:
    model = model_of("bart")
    folder, tokenizer = rows_of(model, rows(), max_source_tokens=16), load_tokenizer(model)
    found = Rows.open(folder, "train")
    cut = tokenizer(*PAIRS[0][:2], truncation="longest_first", max_length=16)["input_ids"]
    assert found.source(0).tolist() == cut and len(cut) == 16
    assert all(found.source(i).tolist().count(tokenizer.eos_token_id) == 3 for i in range(5))
    assert found.source_lengths.max() == 16


def test_an_end_token_in_a_text(model_of: Any, rows_of: Any) -> None:
    """BART would classify from the wrong place, and transformers refuses such a batch in the middle of a training."""
    wrong = rows()
    wrong[2]["premise"] = "Rain</s> fell."
    with pytest.raises(Failure, match="the example train-2 has 4 end tokens") as caught:
        rows_of(model_of("bart"), wrong)
    assert caught.value.code == "R208"


def test_single_texts(model_of: Any, rows_of: Any) -> None:
    model = model_of("bert")
    single = Columns(source="premise", hypothesis=None, target="label", id=None)
    folder, tokenizer = rows_of(model, rows(), columns=single), load_tokenizer(model)
    found = Rows.open(folder, "validation")
    assert found.source(3).tolist() == tokenizer(PAIRS[3][0])["input_ids"]
    assert "token_type_ids" not in TASK.collate(found, [0, 1], 0)


# --- the loss ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_loss_is_that_of_transformers(family: str, model_of: Any, rows_of: Any) -> None:
    model_folder = model_of(family)
    found = Rows.open(rows_of(model_folder, rows()), "train")
    tokenizer, model = load_tokenizer(model_folder), load_model(model_folder)
    settings = ObjectiveSettings(
        labels=LabelsTerm(weight=1.0, smoothing=0.0), logits=None, hidden=None, attention=None, cosine=None,
        embedding=None, own={}, phi=None,
    )  # fmt: skip
    objective = Objective(model, settings, ()).eval()
    ids = np.arange(5)
    batch = TASK.collate(found, ids, tokenizer.pad_token_id)
    share, _ = objective(batch, factors_of(TASK.num_items(found, ids), world=1))
    share.backward()
    given = {name: tensor for name, tensor in batch.items() if name != "token_type_ids" or family == "bert"}
    plain = load_model(model_folder)
    loss = plain(**given).loss
    loss.backward()
    assert float(share.detach()) == pytest.approx(float(loss.detach()), abs=1e-5)
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4, msg=name)
    summed, number = objective.label_loss(batch).tolist()
    assert number == 5 and summed / 5 == pytest.approx(float(loss.detach()), abs=1e-5)


# --- classes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bart", "bert"])
def test_an_evaluation(family: str, tmp_path: Path, model_of: Any, rows_of: Any) -> None:
    model_folder = model_of(family)
    folder = rows_of(model_folder, rows())
    settings = EvaluateSettings(
        task="classification", split="test", limit=None, metrics=("accuracy", "loss"), generation=None, precision="fp32"
    )
    inputs = {"model": model_folder, "data": folder}
    context = context_of(evaluate, settings, inputs, tmp_path / "evaluated", "evaluate-teacher")
    summary = evaluate.run(context.stage, context)
    tokenizer, model = load_tokenizer(model_folder), load_model(model_folder)
    with torch.no_grad():
        logits = [model(**tokenizer(*pair[:2], return_tensors="pt")).logits[0] for pair in PAIRS]
    chosen = [NLI[int(row.argmax())] for row in logits]
    right = sum(name == pair[2] for name, pair in zip(chosen, PAIRS, strict=True))
    found = json.loads((context.folder / "metrics.json").read_text("utf-8"))
    assert found["test"]["accuracy"]["value"] == pytest.approx(20.0 * right)
    losses = [-float(row.log_softmax(0)[NLI.index(pair[2])]) for row, pair in zip(logits, PAIRS, strict=True)]
    assert found["test"]["loss"]["value"] == pytest.approx(sum(losses) / 5, abs=1e-5)
    assert found["baselines"]["majority"]["test"]["accuracy"]["value"] == pytest.approx(40.0)
    assert summary["metrics"]["test"]["accuracy"] == found["test"]["accuracy"]["value"]
    told = [json.loads(line) for line in (context.folder / "predictions.test.jsonl").read_text("utf-8").splitlines()]
    assert [(line["prediction"], line["reference"]) for line in told] == [
        (name, pair[2]) for name, pair in zip(chosen, PAIRS, strict=True)
    ]
    for line, row in zip(told, logits, strict=True):
        assert line["probabilities"] == pytest.approx(dict(zip(NLI, row.softmax(0).tolist(), strict=True)), abs=1e-5)
    head, *table = csv.reader((context.folder / "confusion.test.csv").open("r", encoding="utf-8"))
    assert head[1:] == list(NLI) and [line[0] for line in table] == list(NLI)
    assert [sum(map(int, line[1:])) for line in table] == [1, 2, 2]
    assert sum(int(line[i]) for i, line in enumerate(table, 1)) == right
    assert (context.folder / "confusion.test.png").read_bytes().startswith(b"\x89PNG")
    notices = [notice["code"] for notice in read_notices(context.folder / FILE)]
    assert ("R365" in notices) == (20.0 * right <= 40.0)


def test_a_model_of_other_classes_is_not_judged(tmp_path: Path, model_of: Any, rows_of: Any) -> None:
    folder = rows_of(model_of("bart"), rows())
    settings = EvaluateSettings(
        task="classification", split="test", limit=None, metrics=("accuracy",), generation=None, precision="fp32"
    )
    for names in (GLUE, ("sports", "politics", "weather")):
        inputs = {"model": model_of("bart", names), "data": folder}
        context = context_of(evaluate, settings, inputs, tmp_path / "evaluated")
        with pytest.raises(Failure) as caught:
            evaluate.run(context.stage, context)
        assert caught.value.code == "R207"
        assert ", ".join(names) in caught.value.message and ", ".join(NLI) in caught.value.message


def test_a_student_says_what_its_outputs_are(model_of: Any, rows_of: Any) -> None:
    nameless = model_of("bart", None)
    folder = rows_of(nameless, rows(), GLUE)
    student = load_model(nameless)
    TASK.configure(student, None, folder)
    assert student.config.id2label == dict(enumerate(GLUE)) and student.config.label2id["contradiction"] == 2
    TASK.configure(load_model(model_of("bart", ("a", "b", "c"))), None, folder)  # trained for other classes
    with pytest.raises(Failure, match="the outputs of the teacher are a, b, c"):
        TASK.configure(student, load_model(model_of("bart", ("a", "b", "c"))), folder)
    with pytest.raises(Failure, match="the outputs of the model that is trained are contradiction, neutral"):
        TASK.configure(load_model(model_of("bart", NLI)), None, folder)  # the same classes in another order


def test_the_student_is_a_zero_shot_classifier(tmp_path: Path, model_of: Any) -> None:
    """In transformers' pipeline, by the entailment output that its config names."""
    from transformers import pipeline

    for names, entailment in ((NLI, 2), (GLUE, 0)):
        folder = model_of("bart", names)
        classify = pipeline("zero-shot-classification", model=str(folder), device="cpu")
        assert classify.entailment_id == entailment
        candidates = ["weather", "sports", "trade"]
        found = classify("Rain fell all night.", candidates)
        tokenizer, model = load_tokenizer(folder), load_model(folder)
        with torch.no_grad():
            logits = torch.stack([
                model(**tokenizer("Rain fell all night.", f"This example is {name}.", return_tensors="pt")).logits[0]
                for name in candidates
            ])  # fmt: skip
        expected = logits[:, entailment].softmax(0).tolist()
        assert dict(zip(found["labels"], found["scores"], strict=True)) == pytest.approx(
            dict(zip(candidates, expected, strict=True)), abs=1e-5
        )


@pytest.mark.slow
def test_speed_is_that_of_forward_passes(tmp_path: Path, model_of: Any, rows_of: Any) -> None:
    model_folder = model_of("bart")
    settings = BenchmarkSettings(
        task="classification", examples=4, batch_size=2, repeats=2, generation=None, precision="fp32", device="a CPU"
    )
    inputs = {"model": model_folder, "data": rows_of(model_folder, rows())}
    context = context_of(benchmark, settings, inputs, tmp_path / "timed")
    found = benchmark.run(context.stage, context)
    assert found["engine"] == "transformers" and found["examples"] == 4 and "beams" not in found
    assert found["parameters"] == sum(parameter.numel() for parameter in load_model(model_folder).parameters())
    assert found["examples_per_second"] == pytest.approx(4 / sorted(found["seconds"])[1 - len(found["seconds"]) % 2], rel=1.0)
    read = Rows.open(inputs["data"], "test.test").source_lengths[:4].sum()
    assert found["tokens_per_second"] / found["examples_per_second"] == pytest.approx(read / 4)
    assert set(found["engines"]["transformers"]["latency_ms"]) == {"1", "4"}
