"""Systems of others in a spec: their stages, what is in their keys, and that nothing else moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distilc.runtime.plan.load import bind_plan


def written(folder: Path) -> None:
    (folder / "theirs.txt").write_text("a\n" * 20, "utf-8")
    (folder / "theirs.jsonl").write_text('{"id": "x", "summary": "a"}\n', "utf-8")


def test_a_stage_of_its_own_and_no_other_key_moves(compile_text: Any, tmp_path: Path) -> None:
    written(tmp_path)
    before = compile_text()
    after = compile_text("baselines.bertabs={predictions: theirs.jsonl, columns: {text: summary}, million_parameters: 110}")
    stage = after.stage("baseline-bertabs")
    assert (stage["kind"], stage["needs"]) == ("baseline", {"data": "data"})
    (found,) = stage["settings"]["predictions"].items()
    assert found[0] == "test" and {**found[1], "fingerprint": ""} == {
        "fingerprint": "", "kind": ".jsonl", "id": None, "text": "summary"
    }  # fmt: skip
    assert stage["execution"]["locations"] == {found[1]["fingerprint"]: str(tmp_path / "theirs.jsonl")}
    keys = {stage["id"]: stage["key"] for stage in after.plan["stages"]}
    assert keys.pop("baseline-bertabs") == stage["key"]
    assert keys == {stage["id"]: stage["key"] for stage in before.plan["stages"]}
    assert "baselines" not in before.plan
    bound = bind_plan(after.plan)
    assert bound.baselines["bertabs"].million_parameters == 110


def test_what_is_known_of_a_system_is_in_no_key(compile_text: Any, tmp_path: Path) -> None:
    written(tmp_path)
    one = compile_text("baselines.b={predictions: theirs.txt}")
    other = compile_text("baselines.b={predictions: theirs.txt, million_parameters: 1, examples_per_second: 2.5}")
    assert one.plan["key"] == other.plan["key"]
    assert other.plan["baselines"] == {"b": {"million_parameters": 1, "examples_per_second": 2.5}}
    metrics = compile_text("baselines.b={predictions: theirs.txt}", "evaluation.metrics=[rouge1]")
    assert metrics.stage("baseline-b")["settings"]["metrics"] == ["rouge1"]
    (tmp_path / "theirs.txt").write_text("b\n" * 20, "utf-8")
    assert compile_text("baselines.b={predictions: theirs.txt}").stage("baseline-b")["key"] != one.stage("baseline-b")["key"]


def test_a_file_for_each_test_set(compile_text: Any, tmp_path: Path) -> None:
    written(tmp_path)
    sets = "data.test={one: {builtin: bulletins, limit: 3}, two: {builtin: bulletins, limit: 4}}"
    found = compile_text(sets, "baselines.b.predictions={two: theirs.txt}")
    assert list(found.stage("baseline-b")["settings"]["predictions"]) == ["two"]
    assert compile_text(sets, "baselines.b.predictions={three: theirs.txt}").codes == ["E416"]
    assert compile_text("baselines.b.predictions=nothing.txt").codes == ["E508"]
    assert compile_text("baselines.b.predictions=theirs.doc").codes == ["E412"]
    (tmp_path / "folder.d").mkdir()
    assert compile_text("baselines.b.predictions=folder.d").codes == ["E508"]


def test_they_are_the_first_thing_that_is_done_with_the_rows(compile_text: Any, tmp_path: Path) -> None:
    written(tmp_path)
    plan = compile_text("baselines={b: {predictions: theirs.txt}, a: {predictions: theirs.jsonl}}").plan
    ids = [stage["id"] for stage in plan["stages"]]
    assert ids[ids.index("data") :][:4] == ["data", "baseline-b", "baseline-a", "teacher-train"]
