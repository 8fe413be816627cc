"""`predict` with a classifier: the classes and probabilities of transformers' own pipelines, pairs, candidate labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from distilc.runtime.commands.predict import main
from distilc.runtime.commands.trained_as import RECORD, TrainedAs
from distilc.runtime.data.classes import name_outputs
from distilc.runtime.data.train_tokenizer import train_tokenizer
from distilc.runtime.models.build import build
from distilc.runtime.models.families import FAMILIES, num_positions
from distilc.runtime.models.load import load_model, load_tokenizer
from distilc.runtime.models.save import save_model
from distilc.runtime.plan.binding import as_written

NLI = ("contradiction", "neutral", "entailment")
TEXTS = ["rain fell all night", "the team won the cup, and the town was glad", "bread costs more"]
SECONDS = ["it was wet", "the team lost", "prices rose"]
LABELS = ["sports", "weather", "trade"]
OPTIONS = ["--workspace=ws", "--device=cpu"]


def student_of(folder: Path, family: str, names: tuple[str, ...]) -> Path:
    tokenizer = folder / f"tokenizer-{family}"
    train_tokenizer([*TEXTS, *SECONDS] * 4, "bpe", 320, FAMILIES[family], 64).save_pretrained(tokenizer)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    if family == "bart":
        sizes = {
            "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
        }  # fmt: skip
    deviation = {"init_std" if family == "bart" else "initializer_range": 0.4}
    config = {"vocab_size": 330, "max_position_embeddings": 66, **sizes, **deviation}
    model = build(family, config, 5, load_tokenizer(tokenizer), len(names))
    name_outputs(model.config, names)
    save_model(model, folder / family, tokenizer=tokenizer)
    return folder / family


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("s.txt").write_text("".join(f"{text}\n" for text in TEXTS), "utf-8")
    rows = [{"id": f"r{i}", "premise": a, "claim": b} for i, (a, b) in enumerate(zip(TEXTS, SECONDS, strict=True))]
    Path("s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return tmp_path


def read(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(file).read_text("utf-8").splitlines()]


def logits_of(student: Path, *texts: str) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = load_model(student)(**load_tokenizer(student)(*texts, return_tensors="pt")).logits[0]
    return found


@pytest.mark.parametrize("family", ["bart", "bert", "roberta"])
def test_classes_of_texts(here: Path, family: str) -> None:
    student = student_of(here, family, ("bad", "good"))
    assert main([str(student), "s.txt", "-o", "out.jsonl", *OPTIONS]) == 0
    found = read("out.jsonl")
    assert [record["source"] for record in found] == TEXTS
    for text, record in zip(TEXTS, found, strict=True):
        shares = logits_of(student, text).softmax(0).tolist()
        assert record["probabilities"] == pytest.approx({"bad": shares[0], "good": shares[1]}, abs=1e-5)
        assert record["prediction"] == ("bad", "good")[shares[1] > shares[0]]
        assert record["probability"] == pytest.approx(max(shares), abs=1e-5)
    assert main([str(student), "s.txt", "-o", "out.txt", "--batch-size=1", *OPTIONS]) == 0
    assert Path("out.txt").read_text("utf-8").split("\n")[:3] == [record["prediction"] for record in found]


@pytest.mark.parametrize("family", ["bart", "bert"])
def test_classes_of_pairs(here: Path, family: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By the columns that are named, or those that the student was trained on."""
    student = student_of(here, family, NLI)
    columns = ["--column=premise", "--pair-column=claim"]
    assert main([str(student), "s.jsonl", "-o", "named.jsonl", *columns, *OPTIONS]) == 0
    found = read("named.jsonl")
    for i, record in enumerate(found):
        shares = dict(zip(NLI, logits_of(student, TEXTS[i], SECONDS[i]).softmax(0).tolist(), strict=True))
        assert (record["id"], record["hypothesis"]) == (f"r{i}", SECONDS[i])
        assert record["probabilities"] == pytest.approx(shares, abs=1e-5)
    known = TrainedAs(
        prefix="", source_language=None, target_language=None, column="premise", max_source_tokens=40,
        max_target_tokens=None, generation=None, precision=None, pair_column="claim",
    )  # fmt: skip
    (student / RECORD).write_text(json.dumps(as_written(known)), "utf-8")
    assert main([str(student), "s.jsonl", "-o", "known.jsonl", *OPTIONS]) == 0
    assert read("known.jsonl") == found
    assert main([str(student), "s.txt", *OPTIONS]) == 1
    assert "R361: the student classifies pairs of texts, and s.txt has one text a line" in capsys.readouterr().err


@pytest.mark.parametrize("names", [NLI, NLI[::-1]])
@pytest.mark.parametrize("options", [[], ["--multi-label"], ["--hypothesis-template=It says {}."]])
def test_candidate_labels_are_those_of_the_zero_shot_pipeline(
    here: Path, names: tuple[str, ...], options: list[str]
) -> None:
    from transformers import pipeline

    student = student_of(here, "bart", names)
    classify = pipeline("zero-shot-classification", model=str(student), device="cpu")
    given = {"multi_label": "--multi-label" in options}
    if "=" in "".join(options):
        given["hypothesis_template"] = "It says {}."
    for labels in (LABELS, LABELS[:1]):
        words = [str(student), "s.txt", "-o", "out.jsonl", f"--candidate-labels={','.join(labels)}", *options, *OPTIONS]
        assert main(words) == 0
        for text, record in zip(TEXTS, read("out.jsonl"), strict=True):
            expected = classify(text, labels, **given)
            assert record["probabilities"] == pytest.approx(
                dict(zip(expected["labels"], expected["scores"], strict=True)), abs=1e-5
            )
            assert record["prediction"] == expected["labels"][0]


def test_what_is_no_zero_shot(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = student_of(here, "bart", ("bad", "good"))
    assert main([str(student), "s.txt", "--candidate-labels=a,b", *OPTIONS]) == 1
    assert "R373: no class of the student is called entailment: they are bad, good" in capsys.readouterr().err
    for wrong in (["--multi-label"], ["--candidate-labels=,"], ["--candidate-labels=a", "--hypothesis-template=x"]):
        assert main([str(student), "s.txt", *wrong, *OPTIONS]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_roberta_has_fewer_positions_than_rows(here: Path) -> None:
    """Positions are counted from the padding token on: a text of 66 tokens would have none for its end."""
    student = student_of(here, "roberta", ("bad", "good"))
    config = load_model(student).config
    assert num_positions(config) == 66 - config.pad_token_id - 1 == 65
    Path("long.txt").write_text("rain " * 200 + "\n", "utf-8")
    assert main([str(student), "long.txt", "-o", "out.jsonl", *OPTIONS]) == 0
    assert read("out.jsonl")[0]["prediction"] in ("bad", "good")
