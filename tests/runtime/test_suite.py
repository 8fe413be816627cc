"""Runs over several tasks -> one table: medians over seeds, the mean of the tasks, what was expected."""

from __future__ import annotations

from typing import Any

import pytest

from distilc.runtime.report.suite import suite_table
from distilc.runtime.report.table import shown

Scores = dict[str, dict[str, float]]


def summary(
    task: str | None, seed: int, student: Scores, teacher: Scores, *, name: str = "glue", point: str = "", data: str = "",
    expect: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """`student`, `teacher`: test set -> metric -> value."""
    sets = {
        test_set: {
            who: {
                metric: {"value": value, **({} if metric != "loss" else {"higher_is_better": False})}
                for metric, value in scores[test_set].items()
            }
            for who, scores in (("teacher", teacher), ("student", student))
        }
        for test_set in student
    }
    parts = [name, *filter(None, (task, point)), *([f"seed{seed}"] if seed else [])]
    model = {"family": "bert", "encoder_layers": 4, "decoder_layers": 0}
    return {
        "name": "-".join(parts), "variant": task, "seed": seed, "test_sets": sets,
        "stages": {"data": {"key": data or f"data of {task or name}"}},
        "models": {"teacher": {**model, "encoder_layers": 12}, "student": model},
        "expect": {who: {"scores": scores} for who, scores in (expect or {}).items()},
    }  # fmt: skip


def rows_of(summaries: list[dict[str, Any]]) -> list[list[str]]:
    found = suite_table(summaries)
    assert found is not None
    return [[cell.text for cell in row] for row in found[0].rows]


def test_medians_of_seeds_and_the_mean_of_the_tasks() -> None:
    of_rte = {"teacher": {"accuracy": 69.3}, "student": {"glue": 59.9}}
    runs = [
        *(summary("rte", seed, {"test": {"accuracy": value, "loss": 0.7}}, {"test": {"accuracy": 66.0}}, expect=of_rte)
          for seed, value in ((1, 50.0), (2, 58.0), (3, 60.0))),
        *(summary("mnli", seed, {"m": {"accuracy": value}, "mm": {"accuracy": value + 2}},
                  {"m": {"accuracy": 84.0}, "mm": {"accuracy": 85.0}},
                  expect={"student": {"m.accuracy": 82.0, "mm.accuracy": 83.0}})
          for seed, value in ((1, 80.0), (2, 70.0), (3, 90.0))),
    ]  # fmt: skip
    assert rows_of(runs) == [
        ["", "score", "rte", "mnli"],
        ["teacher bert 12", "75.2", "66.0", "84.5"],
        ["teacher, expected", "", "69.3", ""],
        ["student bert 4", "69.5", "58.0", "81.0"],
        ["student, expected", "71.2", "59.9", "82.5"],
    ]
    found = suite_table(runs)
    assert found is not None and found[0].title == "glue"
    assert found[1] == (
        "score: the mean of the 2 tasks; of a task the median of 3 seeds, each the mean of its metrics and test sets"
    )
    assert shown(found[0], 80).splitlines()[1].split() == ["score", "rte", "mnli"]


def test_each_student_of_a_matrix_has_a_row_and_one_that_lacks_a_task_has_no_score() -> None:
    runs = [
        summary(task, 0, {"test": {"matthews": value}}, {"test": {"matthews": 60.0}}, point=point)
        for task, point, value in (("cola", "init-1", 50.0), ("cola", "init-2", 40.0), ("rte", "init-1", 56.0))
    ]
    assert rows_of(runs) == [
        ["", "score", "cola", "rte"],
        ["teacher bert 12", "60.0", "60.0", "60.0"],
        ["student bert 4 init-1", "53.0", "50.0", "56.0"],
        ["student bert 4 init-2", "", "40.0", ""],
    ]


    runs[1] = summary("cola", 0, {"test": {"matthews": 40.0}}, {"test": {"matthews": 61.0}}, point="init-2")
    assert [row[0] for row in rows_of(runs)[1:]] == [
        f"{who} bert {depth} {point}" for point in ("init-1", "init-2") for who, depth in (("teacher", 12), ("student", 4))
    ]


def test_specs_without_variants_are_tasks_by_their_names() -> None:
    runs = [summary(None, 0, {"test": {"f": 1.0}}, {"test": {"f": 3.0}}, name=name) for name in ("one", "two")]
    assert rows_of(runs)[0] == ["", "score", "one", "two"]


@pytest.mark.parametrize("data", [["same", "same"], ["one", "two"]])
def test_runs_on_one_data_set_are_no_suite(data: list[str]) -> None:
    """Nor are two data sets under one name."""
    tasks = ("a", "b") if data == ["same", "same"] else ("a", "a")
    runs = [
        summary(task, seed, {"test": {"f": 1.0}}, {"test": {"f": 1.0}}, data=key)
        for seed, (task, key) in enumerate(zip(tasks, data, strict=True), 1)
    ]
    assert suite_table(runs) is None
