"""The summaries of runs on several data sets -> one table: a row a model, a column a task, and the mean of the tasks.

As GLUE is reported (domain facts 7.6): a task's score is the median over seeds, the macro score the plain mean of the
tasks. Scores are those of which more is better; of several metrics, or test sets, of a task their mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from .table import Cell, Table, label_of

PUBLISHED = "glue"  # what `expect` calls the score of a task

Summary = Mapping[str, Any]


def suite_table(summaries: Sequence[Summary]) -> tuple[Table, str] | None:
    """The table of runs and how to read it. None: they are not on several data sets, or two tasks have one."""
    prefix = _spec_name(summaries)
    tasks: dict[str, dict[str, list[Summary]]] = {}  # task -> system -> its replicates
    keys: dict[str, set[str]] = {}
    for summary in summaries:
        task, system = _task_and_system(summary, prefix)
        tasks.setdefault(task, {}).setdefault(system, []).append(summary)
        keys.setdefault(task, set()).add(summary["stages"]["data"]["key"])
    each_its_own = all(len(found) == 1 for found in keys.values()) and len(set().union(*keys.values())) == len(tasks)
    if len(tasks) < 2 or not each_its_own:
        return None
    systems = list(dict.fromkeys(system for of_task in tasks.values() for system in of_task))
    rows = [[Cell(""), Cell("score"), *map(Cell, tasks)]]
    every = [[run for found in of_task.values() for run in found] for of_task in tasks.values()]
    if all(len({score(run, "teacher") for run in found}) == 1 for found in every):
        rows += _rows("teacher", "", every)
        of_systems: tuple[str, ...] = ("student",)
    else:  # each has its own
        of_systems = ("teacher", "student")
    for system in systems:
        for who in of_systems:
            rows += _rows(who, system, [of_task.get(system, []) for of_task in tasks.values()])
    seeds = {len({run["seed"] for run in found}) for of_task in tasks.values() for found in of_task.values()}
    of = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    note = (
        f"score: the mean of the {len(tasks)} tasks; of a task the median of {of} seed{'s' if max(seeds) > 1 else ''}, "
        "each the mean of its metrics and test sets"
    )
    return Table(prefix or "all runs", tuple(map(tuple, rows))), note


def _rows(who: str, system: str, runs: Sequence[Sequence[Summary]]) -> list[list[Cell]]:
    """Of a model, by task, and what was expected of it, if anything was."""
    first = next(run for found in runs for run in found)
    named = f"{label_of(first, who)} {system}".rstrip()
    rows = [_row(named, [_median(score(run, who) for run in found) for found in runs])]
    expected = [_median(expected_score(run, who) for run in found) for found in runs]
    if any(value is not None for value in expected):
        rows.append(_row(f"{who}, expected", expected))
    return rows


def score(summary: Summary, who: str) -> float | None:
    """The mean of a model's scores over test sets and metrics; None: it has none of which more is better."""
    values = [entry["value"] for _, _, entry in _scores(summary, who)]
    return fmean(values) if values else None


def expected_score(summary: Summary, who: str) -> float | None:
    """What the spec expects of the same: `glue`, or all of the metrics that it is the mean of."""
    said = summary.get("expect", {}).get(who, {}).get("scores", {})
    if PUBLISHED in said:
        return float(said[PUBLISHED])
    values = [said.get(f"{name}.{metric}", said.get(metric)) for name, metric, _ in _scores(summary, who)]
    return fmean(values) if values and None not in values else None


def _scores(summary: Summary, who: str) -> list[tuple[str, str, Mapping[str, Any]]]:
    return [
        (name, metric, entry)
        for name, found in summary["test_sets"].items()
        for metric, entry in found[who].items()
        if entry.get("higher_is_better", True)
    ]


def _median(values: Iterable[float | None]) -> float | None:
    """None: one of them is not there, or there are none."""
    found = list(values)
    there = [value for value in found if value is not None]
    return median(there) if there and len(there) == len(found) else None


def _row(name: str, values: Sequence[float | None]) -> list[Cell]:
    """With the mean of the tasks, where all are there."""
    there = [value for value in values if value is not None]
    macro = fmean(there) if len(there) == len(values) else None
    return [Cell(name), *(Cell("" if value is None else f"{value:.1f}") for value in (macro, *values))]


def _task_and_system(summary: Summary, prefix: str) -> tuple[str, str]:
    """What names the task, the variant, or a run of a spec without any; and what else is in the run's name."""
    base, variant = _without_seed(summary), summary["variant"]
    if variant is None:
        return base, ""
    return variant, base.removeprefix(f"{prefix}-{variant}").removeprefix("-")


def _spec_name(summaries: Sequence[Summary]) -> str:
    """What the names of all runs have before their variants; "": nothing."""
    found: set[str] | None = None
    for summary in summaries:
        base, mark = _without_seed(summary), f"-{summary['variant']}"
        own = {base[:i] for i in range(len(base)) if f"{base[i:]}-".startswith(f"{mark}-")}
        found = own if found is None else found & own
    return max(found or {""}, key=len)


def _without_seed(summary: Summary) -> str:
    name: str = summary["name"]
    return name.removesuffix(f"-seed{summary['seed']}")
