"""Artifacts -> summary -> result table and model card."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distilc.runtime.execution.store import Store
from distilc.runtime.messages.notices import FILE, Notice, Notices
from distilc.runtime.plan.load import load_plan
from distilc.runtime.plan.plan import Expectation, Plan
from distilc.runtime.report.model_card import model_card
from distilc.runtime.report.summary import main_metric, summarize
from distilc.runtime.report.table import result_tables, table_markdown, table_text
from distilc.runtime.tracking.content import summary_metrics

TEACHER = {"rouge1": {"value": 40.0, "low": 38.0, "high": 42.0}, "rouge2": {"value": 20.0, "low": 19.0, "high": 21.0}}
STUDENT = {"rouge1": {"value": 38.0, "low": 36.5, "high": 39.5}, "rouge2": {"value": 18.5, "low": 17.25, "high": 19.75}}
LEAD = {"rouge1": {"value": 11.0, "low": 10.0, "high": 12.0}, "rouge2": {"value": 3.0, "low": 2.5, "high": 3.5}}
LESS = {"higher_is_better": False}
SPEED = {"batch_size": 32, "device": "cpu", "beams": 4, "examples_per_second": 8.0, "latency_ms_per_example": 125.0}
TRAINING = {"stopped_by": "patience", "steps": 120, "best": 18.9, "monitor": "rouge2"}


@pytest.fixture
def plan() -> Plan:
    return load_plan(Path(__file__).with_name("sample_plan.json"))


def publish(store: Store, plan: Plan, stage: str, file: str, content: Any) -> None:
    key = plan.stage(stage).key
    (store.work(key) / file).write_text(json.dumps(content))
    store.publish(key, kind=plan.stage(stage).kind, stage=stage, seconds=1.5, summary={})


@pytest.fixture
def store(plan: Plan, tmp_path: Path) -> Store:
    """The results of a finished run."""
    store = Store(tmp_path / "store")
    baselines = {"baselines": {"lead": {"test": LEAD}}}
    publish(store, plan, "train", "training.json", TRAINING)
    publish(store, plan, "evaluate-teacher", "metrics.json", {"test": TEACHER, **baselines})
    publish(store, plan, "evaluate-student", "metrics.json", {"test": STUDENT, **baselines})
    publish(store, plan, "benchmark-teacher", "speed.json", SPEED)
    publish(store, plan, "benchmark-student", "speed.json", {**SPEED, "examples_per_second": 12.5})
    return store


def test_a_teacher_to_learn_nothing_from_is_told_under_the_table(plan: Plan, store: Store) -> None:
    kept = store.find(plan.stage("evaluate-teacher").key)
    assert kept is not None
    notices = Notices(kept / FILE)
    notices.add(Notice("R365", "on test the teacher's rouge2 is 1.00", "stop here", "teacher"))
    notices.add(Notice("R355", "5 of 5 texts end at the limit", "", "evaluation"))
    summary = summarize(plan, store)
    for text in (table_text(summary, 120), table_markdown(summary)):
        assert text.splitlines()[-1] == "warning: on test the teacher's rouge2 is 1.00"


def test_summary(plan: Plan, store: Store) -> None:
    summary = summarize(plan, store, cached={"train"})
    assert summary["name"] == "news-6-3"
    assert summary["key"] == plan.key
    assert summary["stages"]["train"] == {"key": plan.stage("train").key, "seconds": 1.5, "cached": True}
    assert summary["stages"]["data"] == {"key": plan.stage("data").key, "seconds": None, "cached": False}
    assert summary["teacher"] == {"rouge1": 40.0, "rouge2": 20.0}
    assert summary["student"] == {"rouge1": 38.0, "rouge2": 18.5}
    assert summary["baselines"] == {"lead": {"rouge1": 11.0, "rouge2": 3.0}}
    assert summary["retention"] == {"rouge1": 95.0, "rouge2": 92.5}
    assert summary["intervals"]["student"]["rouge2"] == [17.25, 19.75]
    assert (summary["speedup"], summary["speedup_disturbed"]) == (1.5625, None)
    assert summary["parameters"] == {"teacher": 4000000, "student": 3000000, "student_trainable": 1200000}
    assert (summary["stopped_by"], summary["mlflow_run_id"]) == ("patience", None)
    assert main_metric(summary) == "rouge2"
    assert json.loads(json.dumps(summary)) == summary


def test_a_speed_that_was_disturbed_is_told(plan: Plan, store: Store) -> None:
    """It is no result: no speed-up in the summary, and so none in MLflow; a mark in the table, of what it is and of what
    was made of it."""
    assert "other work" not in table_text(summarize(plan, store, cached=set()), 100)
    store.discard(plan.stage("benchmark-student").key)
    publish(store, plan, "benchmark-student", "speed.json", {**SPEED, "examples_per_second": 12.5, "other_work": 0.9})
    summary = summarize(plan, store, cached=set())
    assert (summary["speedup"], summary["speedup_disturbed"]) == (None, 1.5625)
    assert "speedup" not in summary_metrics(summary)
    *_, teacher, student, _, footnote = table_text(summary, 120).splitlines()
    assert teacher.endswith("4.0M        8.00     1.00x") and student.endswith("3.0M       ~12.5    ~1.56x")
    said = "(~: measured beside other work, which is no result; measure again: --redo benchmark-student)"
    assert f"decoding included {said}" in footnote


def test_speeds_are_compared_like_with_like(plan: Plan, store: Store) -> None:
    """The teacher is written by ctranslate2, the student by transformers: the table has what both were measured with."""
    rate = {"examples_per_second": 60.0, "tokens_per_second": 15300.0, "beams": 1}
    slow = {"examples_per_second": 1.25, "tokens_per_second": 312.5, "beams": 1}
    both = {"engine": "ctranslate2", **rate, "engines": {"ctranslate2": rate, "transformers": slow}}
    one = {"examples_per_second": 10.0, "tokens_per_second": 400.0, "beams": 4}
    for who, found in {"teacher": both, "student": {"engine": "transformers", **one, "engines": {"transformers": one}}}.items():
        store.discard(plan.stage(f"benchmark-{who}").key)
        publish(store, plan, f"benchmark-{who}", "speed.json", {**SPEED, **found})
    summary = summarize(plan, store)
    assert summary["speedup"] == 8.0
    lines = table_text(summary, 120).splitlines()
    assert lines[4].endswith("4.0M        1.25     1.00x") and lines[5].endswith("3.0M        10.0     8.00x")
    assert (
        "speed: batches of 32 on cpu by transformers, decoding included (as planned, the teacher is written by "
        "ctranslate2: 60.0 examples/s; beams: 1 for the teacher and 4 for the student; tokens of a text: 250 for the teacher and 40 for the student)"
    ) in lines[-1]


def test_where_nothing_is_written_the_table_has_latencies(plan: Plan, store: Store) -> None:
    """Of the models and of the forms in which the student is served; a form that calculates elsewhere says so."""
    of_one, of_many = {"p5": 1.0, "p50": 1.25, "p95": 2.0}, {"p50": 30.0, "p95": 31.0}  # p5: not in older artifacts
    for who in ("teacher", "student"):
        store.discard(plan.stage(f"benchmark-{who}").key)
        found = {"examples_per_second": 50.0, "latency_ms": {"1": of_one, "32": of_many}}
        speed = {"batch_size": 32, "device": "cpu", "engine": "transformers", **found, "engines": {"transformers": found}}
        publish(store, plan, f"benchmark-{who}", "speed.json", speed)
    summary = summarize(plan, store)
    fast = {"examples_per_second": 100.0, "latency_ms": {"1": {**of_one, "p50": 1.125}, "32": of_many}}
    summary["exports"] = {"onnx int8": {
        "test_sets": {"test": STUDENT},
        "speed": {"batch_size": 32, "engine": "onnx", "note": "onnx calculates on the CPU", **fast, "engines": {"onnx": fast}},
    }}  # fmt: skip
    _, header, _, _, teacher, student, form, _, footnote = table_text(summary, 160).splitlines()
    assert header.endswith("params  examples/s  speed-up        ms, 1  ms, 32")
    assert teacher.endswith("4.0M        50.0     1.00x  1.25 [1, 2]      30") and student.endswith("1.25 [1, 2]      30")
    assert form.startswith("student, onnx int8") and form.endswith("3.0M       100.0     2.00x  1.12 [1, 2]      30")
    assert "ms: for a batch of 1 and of 32, median and in brackets 5 % and 95 % of the batches" in footnote
    assert "onnx int8: onnx calculates on the CPU" in footnote and "decoding included" not in footnote


def test_summary_of_a_run_that_has_only_begun(plan: Plan, tmp_path: Path) -> None:
    summary = summarize(plan, Store(tmp_path / "store"))
    assert (summary["teacher"], summary["student"], summary["retention"]) == ({}, {}, {})
    assert (summary["speedup"], summary["stopped_by"], main_metric(summary)) == (None, None, None)
    assert "teacher marian 6-6" in table_text(summary, 100)


def test_loss_has_no_retention_and_a_zero_teacher_no_share(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    publish(store, plan, "evaluate-teacher", "metrics.json", {"test": {"loss": {"value": 2.0, **LESS}, "bleu": {"value": 0.0}}})
    publish(store, plan, "evaluate-student", "metrics.json", {"test": {"loss": {"value": 2.5, **LESS}, "bleu": {"value": 0.0}}})
    summary = summarize(plan, store)
    assert summary["retention"] == {}
    assert "2.5000" in table_text(summary, 100)


def test_plain_table(plan: Plan, store: Store) -> None:
    assert table_text(summarize(plan, store), 120).splitlines() == [
        "news-6-3 (summarization)",
        "                                rouge1              rouge2  params  examples/s  speed-up",
        "------------------  ------------------  ------------------  ------  ----------  --------",
        "lead baseline       11.00 [10.0, 12.0]     3.00 [2.5, 3.5]",
        "teacher marian 6-6  40.00 [38.0, 42.0]  20.00 [19.0, 21.0]    4.0M        8.00     1.00x",
        "student marian 6-3  38.00 [36.5, 39.5]  18.50 [17.2, 19.8]    3.0M        12.5     1.56x",
        "student keeps                   95.0 %              92.5 %  75.0 %",
        "in brackets: 95 % interval (bootstrap over examples); speed: batches of 32 on cpu, decoding included; "
        "training stopped by patience after 120 steps",
    ]


def test_what_the_spec_expects_stands_below_what_was_measured(plan: Plan, store: Store) -> None:
    def told(within: float | None, source: str | None) -> list[str]:
        expect = {"student": Expectation(scores={"rouge2": 18.0, "bleu": 3.0}, within=within, source=source)}
        lines = table_text(summarize(replace(plan, expect=expect), store), 120).splitlines()
        student = next(number for number, line in enumerate(lines) if line.startswith("student marian"))
        assert lines[student + 1].split() == ["student,", "expected", "18.00"]
        return lines[-1].split("; ")

    assert "expected of the student (Table 6), within 0.5: reproduced" in told(0.5, "Table 6")
    assert "expected of the student, within 0.3: missed: rouge2 by +0.50" in told(0.3, None)
    assert "expected of the student: published scores (Table 6)" in told(None, "Table 6")
    assert not [part for part in told(None, None) if part.startswith("expected")]


def test_what_is_expected_of_a_test_set_stands_in_its_table(plan: Plan, tmp_path: Path) -> None:
    """And what is no metric of the table, such as GLUE's score, in none."""
    store = Store(tmp_path / "store")
    sets = {name: {"accuracy": {"value": 80.0}} for name in ("matched", "mismatched")}
    for who in ("teacher", "student"):
        publish(store, plan, f"evaluate-{who}", "metrics.json", sets)
    expect = {
        "teacher": Expectation(scores={"glue": 84.7}, within=None, source=None),
        "student": Expectation(scores={"mismatched.accuracy": 82.0}, within=None, source=None),
    }
    first, second = table_text(summarize(replace(plan, expect=expect), store), 120).split("\n\n")
    assert "expected" not in first and [line.split() for line in second.splitlines() if "expected" in line] == [
        ["student,", "expected", "82.00"]
    ]


def test_narrow_table_puts_intervals_below(plan: Plan, store: Store) -> None:
    lines = table_text(summarize(plan, store), 80).splitlines()[:-1]
    assert max(map(len, lines)) <= 80
    student = next(number for number, line in enumerate(lines) if line.startswith("student marian"))
    assert lines[student].split()[3:5] == ["38.00", "18.50"]
    assert re.findall(r"\[.*?\]", lines[student + 1]) == ["[36.5, 39.5]", "[17.2, 19.8]"]


@pytest.mark.parametrize("width", [80, 120])
def test_drawn_table(plan: Plan, store: Store, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    text = re.sub(r"\x1b\[[0-9;]*m", "", table_text(summarize(plan, store), width))
    *drawn, _ = text.splitlines()
    assert max(map(len, drawn)) <= width
    assert any("student keeps" in line and "92.5 %" in line for line in drawn)
    assert "[17.2, 19.8]" in text


def test_markdown(plan: Plan, store: Store) -> None:
    lines = table_markdown(summarize(plan, store)).splitlines()
    assert lines[2:5] == [
        "|  | rouge1 | rouge2 | params | examples/s | speed-up |",
        "|---|---:|---:|---:|---:|---:|",
        "| lead baseline | 11.00 [10.0, 12.0] | 3.00 [2.5, 3.5] |  |  |  |",
    ]
    assert lines[7] == "| student keeps | 95.0 % | 92.5 % | 75.0 % |  |  |"


def test_one_table_a_test_set(plan: Plan, tmp_path: Path) -> None:
    data = plan.stage("data")
    settings = replace(data.settings, test={"matched": (), "mismatched": ()})
    stages = tuple(replace(stage, settings=settings) if stage.id == "data" else stage for stage in plan.stages)
    plan = replace(plan, stages=stages)
    store = Store(tmp_path / "store")
    for who, scores in (("teacher", TEACHER), ("student", STUDENT)):
        publish(
            store, plan, f"evaluate-{who}", "metrics.json", {"mismatched": LEAD, "matched": scores, "baselines": {}}
        )
    summary = summarize(plan, store)
    assert summary["student"]["rouge2"] == 18.5
    assert summary["test_sets"]["mismatched"]["retention"] == {"rouge1": 100.0, "rouge2": 100.0}
    first, second = result_tables(summary)
    assert (first.title, second.title) == ("news-6-3 (summarization), matched", "news-6-3 (summarization), mismatched")
    assert [cell.value for cell in second.rows[0]] == ["", "rouge1", "rouge2"]


def test_model_card(plan: Plan, store: Store) -> None:
    summary = {**summarize(plan, store), "mlflow_run_id": "abc"}
    card = model_card(plan, summary)
    assert card.startswith(
        "---\nlibrary_name: transformers\ntags:\n- distillation\n- distilc\n- marian\n"
        "pipeline_tag: summarization\n---\n"
    )
    assert "| student keeps | 95.0 % | 92.5 % |" in card
    assert "A marian model with 6 encoder and 3 decoder layers (3.0M parameters)" in card
    assert "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer\n" in card
    assert "- decoder layers copied from the teacher's: 0, 2, 5\n" in card
    assert "- teacher layers that supervise the decoder (φ): none\n" in card
    assert f"- plan key: `{plan.key}`\n- MLflow run: `abc`\n" in card
    code = card.partition("```python\n")[2].partition("```")[0]
    compile(code, "README.md", "exec")


def test_model_card_names_the_teacher_of_the_hub(plan: Plan, store: Store) -> None:
    teacher = plan.stage("teacher")
    settings = replace(teacher.settings, kind="hub", repository="team/big-model", revision="abc")
    plan = replace(plan, stages=(replace(teacher, settings=settings), *plan.stages[1:]))
    card = model_card(plan, summarize(plan, store))
    assert 'base_model: "team/big-model"\n---\n' in card
    assert "distilled from `team/big-model` (6-6, 4.0M)" in card
