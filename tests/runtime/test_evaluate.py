"""`evaluate` on files: the numbers of the evaluate stage's own code, and what it says of files that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distilc.runtime.commands.evaluate import main
from distilc.runtime.metrics.score import score

PREDICTIONS = ["the cat sat on the mat", "a dog ran", "rain fell"]
REFERENCES = ["the cat sat on a mat", "the dog ran", "rain fell hard"]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text("".join(f"{text}\n" for text in PREDICTIONS), "utf-8")
    rows = [{"id": id, "target": text} for id, text in zip("abc", REFERENCES, strict=True)]
    Path("r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    shuffled = [{"id": id, "prediction": text} for id, text in zip("cab", [PREDICTIONS[i] for i in (2, 0, 1)], strict=True)]
    Path("p.csv").write_text("id,prediction\n" + "".join(f"{row['id']},{row['prediction']}\n" for row in shuffled), "utf-8")
    both = [{"id": i, "source": "s", "reference": r, "prediction": p} for i, (p, r) in enumerate(zip(PREDICTIONS, REFERENCES, strict=True))]
    Path("own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in both), "utf-8")


def scores(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main([*arguments, "--format", "json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_the_numbers_are_those_of_the_stage(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = ["rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "chrf"]
    expected = score(metrics, PREDICTIONS, REFERENCES)
    by_line = scores(capsys, "p.txt", "r.jsonl")
    assert by_line["scores"] == expected and by_line["aligned_by"] == "line" and by_line["examples"] == 3
    assert round(expected["rouge1"]["value"], 2) == 76.67 and round(expected["bleu"]["value"], 2) == 46.66
    by_id = scores(capsys, "p.csv", "r.jsonl", "--task", "translation")
    assert by_id["aligned_by"] == "id" and by_id["scores"] == {name: expected[name] for name in ("bleu", "chrf")}
    own = scores(capsys, "own.jsonl", "--metric", "rouge2")  # the references stand beside the predictions
    assert own["scores"] == {"rouge2": expected["rouge2"]}


def test_classes_and_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    Path("classes.csv").write_text("id,prediction\nb,no\na,yes\nc,yes\nd,no\n", "utf-8")
    labels = [{"id": id, "label": label} for id, label in zip("abcd", ["yes", "no", "no", "no"], strict=True)]
    Path("labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels), "utf-8")
    found: Any = scores(capsys, "classes.csv", "labels.jsonl", "--metric", "matthews", "--metric", "accuracy")
    assert found["scores"]["accuracy"]["value"] == 75.0
    assert found["scores"]["matthews"]["value"] == pytest.approx(100 / 3**0.5)  # (3 * 4 - 8) / sqrt(8 * 6)
    usual: Any = scores(capsys, "classes.csv", "labels.jsonl", "--task", "classification")
    assert usual["scores"] == {"accuracy": found["scores"]["accuracy"]}
    Path("numbers.csv").write_text("prediction,reference\n1,0.5\n2.5,1\n3,2\n", "utf-8")
    numbers: Any = scores(capsys, "numbers.csv", "--metric", "spearman")
    assert numbers["scores"]["spearman"]["value"] == pytest.approx(100.0)
    assert main(["classes.csv", "labels.jsonl", "--metric", "pearson"]) == 1
    assert "R375: " in capsys.readouterr().err


def test_for_people_and_into_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["p.txt", "r.jsonl", "--metric", "rougeLsum", "--metric", "bleu", "-o", "out.txt"]) == 0
    assert capsys.readouterr().out == ""
    text = Path("out.txt").read_text("utf-8")
    assert "p.txt: 3 examples, aligned by line with r.jsonl" in text
    assert "rougeLsum    76.67  [" in text and "rougeLsum: splitter rules-1" in text
    assert "bleu: signature nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in text
    assert [path.name for path in Path().glob(".*")] == []  # nothing half-written is left


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["p.txt"], "R361", "p.txt has no references beside its predictions"),
        (["p.csv"], "R361", "p.csv has no references beside its predictions"),
        (["p.txt", "r.jsonl", "--metric", "loss"], "R364", "loss is computed from a model"),
        (["p.txt", "r.jsonl", "--metric", "nothing"], "R305", "there is no metric nothing"),
        (["p.txt", "r.jsonl", "--by", "id"], "R363", "the rows of p.txt have no ids"),
        (["p.txt", "r.jsonl", "-o", "nowhere/out.json"], "R369", "cannot write nowhere/out.json"),
    ],
)
def test_refuses(capsys: pytest.CaptureFixture[str], arguments: list[str], code: str, words: str) -> None:
    assert main(arguments) == 1
    assert f"{code}: " in (said := capsys.readouterr().err) and words in said
