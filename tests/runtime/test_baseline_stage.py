"""The stage `baseline`: a file of predictions against the rows of a test set, and its row in the table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from distilc.runtime.data.rows import write_rows
from distilc.runtime.execution.context import Context, Journal, Progress
from distilc.runtime.failure import Failure
from distilc.runtime.metrics.score import score
from distilc.runtime.plan.plan import Execution, Stage
from distilc.runtime.plan.settings import BaselineSettings, PredictionFile
from distilc.runtime.report.table import table_text
from distilc.runtime.stages import baseline

TARGETS = ["rain closed the school", "the team won the final", "bread and milk cost more"]
WRITTEN = ["rain closed a school", "the team lost", "bread and milk cost more"]
METRICS = ("rouge1", "rouge2")


def run(folder: Path, file: Path, ids: Sequence[str], limit: int | None = None, **columns: Any) -> dict[str, Any]:
    data, output = folder / "data", folder / "output"
    data.mkdir(exist_ok=True)
    output.mkdir(exist_ok=True)
    write_rows(data, "test.test", [
        ([3, 2], [4, 2], {"id": id, "source": "s", "target": target}) for id, target in zip(ids, TARGETS, strict=True)
    ])  # fmt: skip
    fingerprint = hashlib.sha256(file.read_bytes()).hexdigest()
    given = PredictionFile(**{"fingerprint": fingerprint, "kind": file.suffix, "id": None, "text": None, **columns})
    settings = BaselineSettings(task="summarization", limit=limit, metrics=METRICS, predictions={"test": given})
    execution = Execution(locations={fingerprint: str(file)}, micro_batch_tokens=None, save_minutes=None, deepspeed=None)
    stage = Stage(id="baseline-others", kind="baseline", key="k", needs={"data": "data"}, settings=settings, execution=execution)
    context = Context(
        plan=None, stage=stage, folder=output, scratch=output, inputs={"data": data}, rank=0, world=1, device="cpu",
        journal=Journal(output / "metrics.jsonl"), progress=Progress(None, stage.id),
    )  # fmt: skip
    baseline.run(stage, context)
    found: dict[str, Any] = json.loads((output / "metrics.json").read_text("utf-8"))
    return found


@pytest.fixture
def by_id(tmp_path: Path) -> Path:
    rows = [{"id": id, "prediction": text} for id, text in zip("abc", WRITTEN, strict=True)][::-1]
    (tmp_path / "theirs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return tmp_path / "theirs.jsonl"


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    (tmp_path / "theirs.txt").write_text("".join(f"{text}\n" for text in WRITTEN), "utf-8")
    return tmp_path / "theirs.txt"


def test_scores_are_those_of_an_evaluation(tmp_path: Path, by_id: Path, lines: Path) -> None:
    expected = score(METRICS, WRITTEN, TARGETS)
    assert run(tmp_path, by_id, "abc") == {"test": expected}
    assert run(tmp_path, lines, "abc") == {"test": expected}
    # Rows that were numbered have no ids that a file of others could know: line by line.
    backwards = score(METRICS, WRITTEN[::-1], TARGETS)
    assert run(tmp_path, by_id, ["test-0", "test-1", "test-2"]) == {"test": backwards}


def test_a_limit_takes_the_first_examples(tmp_path: Path, by_id: Path, lines: Path) -> None:
    expected = score(METRICS, WRITTEN[:2], TARGETS[:2])
    assert run(tmp_path, by_id, "abc", limit=2) == run(tmp_path, lines, "abc", limit=2) == {"test": expected}


@pytest.mark.parametrize(
    ("ids", "columns", "code", "words"),
    [
        ("abd", {}, "R363", "1 of 3 references have no prediction in"),
        ("abc", {"text": "summary"}, "R361", "there is no column 'summary'"),
        ("abc", {"id": "key"}, "R361", "there is no column 'key'; the columns are id, prediction"),
        ("abc", {"fingerprint": "0" * 64}, "R206", "does not say where the file of predictions is"),
    ],
)
def test_files_that_do_not_fit(
    tmp_path: Path, by_id: Path, ids: str, columns: dict[str, str], code: str, words: str
) -> None:
    with pytest.raises(Failure) as raised:
        run(tmp_path, by_id, ids, **columns)
    assert raised.value.code == code and words in raised.value.message
    assert str(raised.value.spec_path).startswith("baselines.others.")
    if columns and code == "R361":
        assert f"with baselines.others.columns.{next(iter(columns))}" in raised.value.hint


def test_its_row_in_the_table() -> None:
    model = {"family": "bart", "encoder_layers": 12, "decoder_layers": 12}
    values = {"rouge2": {"value": 22.29}}
    summary = {
        "name": "x", "task": "summarization", "intervals": {}, "speedup": None, "training": {}, "exports": {},
        "speed": {"teacher": {}, "student": {"examples_per_second": 10.0, "batch_size": 1, "device": "d"}},
        "speed_compared": {"student": {"examples_per_second": 10.0}},
        "parameters": {"teacher": 406e6, "student": 255e6}, "models": {"teacher": model, "student": model},
        "baseline_facts": {"bertabs": {"million_parameters": 110.0, "examples_per_second": 28.6}},
        "test_sets": {"test": {
            "teacher": values, "student": values, "retention": {}, "baselines": {"bertabs": {"rouge2": {"value": 16.5}}}
        }},
    }  # fmt: skip
    row = next(line for line in table_text(summary, 120).splitlines() if line.startswith("bertabs baseline"))
    assert row.split() == ["bertabs", "baseline", "16.50", "110.0M", "28.6"]
