"""The artifacts of a run -> its summary: one JSON object with all that is worth comparing."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..execution.other_work import QUIET
from ..execution.store import Store
from ..messages.notices import FILE, read_notices
from ..plan.plan import Plan, Stage
from ..plan.settings import OwnSettings

FORMAT = 1
PREFERRED = (
    "rouge2", "bleu", "chrf", "rougeL", "rouge1", "accuracy", "macro_f1", "matthews", "pearson", "spearman", "loss",
)  # fmt: skip

Scores = Mapping[str, Mapping[str, Any]]  # metric -> {value, low?, high?, ...}


def summarize(plan: Plan, store: Store, *, cached: Collection[str] = ()) -> dict[str, Any]:
    """What `summary.json` holds. A stage whose artifact is not there leaves its part empty.

    `teacher`, `student`, `baselines`, `retention` and `intervals` are those of the first test set (the plan's
    order); `test_sets` has all of them. `cached`: ids of the stages that this run found in the store.
    `expect` are the scores that the spec expects of the first test set: {who: {scores, within, source}}.
    `warnings` are those of all stages, in order, also of stages that were in the store.
    `mlflow_run_id` is None here; the driver knows it. Percentages are percent; speed-up is the student's
    examples a second over the teacher's, both in `speed_compared`; where one of them was measured beside other work it
    is no result, and stands in `speedup_disturbed`. `results`: what the stages say that the spec names under `stages`;
    absent where it names none.
    """
    folders = {stage.id: folder for stage in plan.stages if (folder := store.find(stage.key)) is not None}
    scores = {who: _read(folders, f"evaluate-{who}", "metrics.json") for who in ("teacher", "student")}
    scores["others"] = {"baselines": {
        stage.id.removeprefix("baseline-"): _read(folders, stage.id, "metrics.json")
        for stage in plan.stages
        if stage.kind == "baseline"
    }}  # fmt: skip
    test_sets = {name: _test_set(plan, name, scores) for name in _test_set_names(plan, scores)}
    first: dict[str, Any] = next(iter(test_sets.values()), _test_set(plan, "", scores))
    speed = {who: _read(folders, f"benchmark-{who}", "speed.json") for who in ("teacher", "student")}
    compared = _like_with_like(speed)
    exports = _exports(plan, folders)
    training, phased = _read(folders, "train", "training.json"), len(plan.phases) > 1
    results = {
        stage.id: store.manifest(stage.key)["summary"]
        for stage in plan.stages
        if isinstance(stage.settings, OwnSettings) and stage.id in folders
    }
    return {
        "format": FORMAT,
        "name": plan.name,
        "key": plan.key,
        "variant": plan.variant,
        "task": plan.task,
        "seed": plan.seed,
        "stages": _stages(plan, store, cached),
        "teacher": _values(first["teacher"]),
        "student": _values(first["student"]),
        "baselines": {name: _values(found) for name, found in first["baselines"].items()},
        "retention": first["retention"],
        "intervals": {
            **{name: _intervals(found) for name, found in first["baselines"].items()},
            **{who: _intervals(first[who]) for who in ("teacher", "student")},
        },
        "test_sets": test_sets,
        "speed": speed,
        "speed_compared": compared,
        "speedup": None if disturbed(compared) else _speedup(compared),
        "speedup_disturbed": _speedup(compared) if disturbed(compared) else None,
        "exports": exports,
        "parameters": {
            "teacher": plan.teacher.parameters,
            "student": plan.student.parameters,
            "student_trainable": plan.student.trainable_parameters,
        },
        "expect": {who: asdict(found) for who, found in plan.expect.items()},
        "baseline_facts": {name: asdict(facts) for name, facts in plan.baselines.items()},
        "models": {"teacher": asdict(plan.teacher), "student": asdict(plan.student)},
        "labels": {
            name: _read(folders, stage.id, "quality.json")
            for stage in plan.stages
            if stage.kind == "pseudo-labels" and (name := labeller_of(stage)) is not None
        },
        **({"results": results} if results else {}),
        "training": training,
        **({"phases": [_read(folders, stage.id, "training.json") for stage in plan.phases]} if phased else {}),
        "warnings": [
            {"stage": stage.id, **notice}
            for stage in plan.stages
            if stage.id in folders
            for notice in read_notices(folders[stage.id] / FILE)
        ],
        "stopped_by": training.get("stopped_by"),
        "mlflow_run_id": None,
    }


def labeller_of(stage: Stage) -> str | None:
    """The name of the labeller whose labels the student is trained on by this stage, `labels-NAME`; None: it is
    another stage, or the labels are those of a run that makes a model."""
    kind, dash, name = stage.id.partition("-")
    return name if kind == "labels" and dash else None


def main_metric(summary: Mapping[str, Any]) -> str | None:
    """The metric that says the most about the run, for one-line views."""
    found = summary["student"] or summary["teacher"]
    return next((metric for metric in PREFERRED if metric in found), next(iter(found), None))


def _stages(plan: Plan, store: Store, cached: Collection[str]) -> dict[str, Any]:
    return {
        stage.id: {
            "key": stage.key,
            "seconds": store.manifest(stage.key)["seconds"] if store.has(stage.key) else None,
            "cached": stage.id in cached,
        }
        for stage in plan.stages
    }


def _read(folders: Mapping[str, Path], stage: str, name: str) -> dict[str, Any]:
    """A stage's result file; empty when the stage has not run."""
    if stage not in folders:
        return {}
    found: dict[str, Any] = json.loads((folders[stage] / name).read_text("utf-8"))
    return found


def _test_set_names(plan: Plan, scores: Mapping[str, Any]) -> list[str]:
    there = {name for found in scores.values() for name in found if name != "baselines"}
    order = [name for stage in plan.stages if stage.id == "data" for name in stage.settings.test]
    return [name for name in order if name in there] + sorted(there - set(order))


def _test_set(plan: Plan, name: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    teacher, student = (_ordered(plan, scores[who].get(name, {})) for who in ("teacher", "student"))
    retention = {
        metric: 100 * student[metric]["value"] / teacher[metric]["value"]
        for metric in student
        # Where less is better, which a score says, a share of the teacher's would say nothing.
        if student[metric].get("higher_is_better", True) and teacher.get(metric, {}).get("value")
    }
    baselines: dict[str, Any] = {}
    for found in scores.values():
        for baseline, sets in found.get("baselines", {}).items():
            if name in sets:
                baselines[baseline] = _ordered(plan, sets[name])
    return {"teacher": teacher, "student": student, "baselines": baselines, "retention": retention}


def _ordered(plan: Plan, scores: Scores) -> dict[str, Any]:
    """In the order of the spec's metrics."""
    order = [metric for metric in plan.metrics if metric in scores]
    return {metric: dict(scores[metric]) for metric in [*order, *(name for name in scores if name not in order)]}


def _values(scores: Scores) -> dict[str, float]:
    return {metric: entry["value"] for metric, entry in scores.items()}


def _intervals(scores: Scores) -> dict[str, list[float]]:
    return {metric: [entry["low"], entry["high"]] for metric, entry in scores.items() if "low" in entry}


def _exports(plan: Plan, folders: Mapping[str, Path]) -> dict[str, Any]:
    """The forms of the student that are served, by engine and compute type: `test_sets` as {test set: {metric:
    entry}}, and `speed`."""
    found: dict[str, Any] = {}
    for stage in plan.stages:
        form = stage.id.removeprefix("evaluate-student-")
        by = stage.settings.generation or stage.settings.served if stage.kind == "evaluate" else None
        if form == stage.id or by is None:
            continue
        sets = _read(folders, stage.id, "metrics.json")
        found[f"{by.engine} {form}"] = {
            "test_sets": {name: _ordered(plan, scores) for name, scores in sets.items() if name != "baselines"},
            "speed": _read(folders, f"benchmark-student-{form}", "speed.json"),
        }
    return found


def _like_with_like(speed: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Who -> {engine, examples_per_second, tokens_per_second, beams, other_work; of what writes nothing, latency_ms}:
    as the plans' engines answer, where that is one for both; else as one does that both were measured with; else as
    each one's own."""
    found = {who: measured for who, measured in speed.items() if measured}
    own = [measured.get("engine") for measured in found.values()]
    common = [name for name in own if all(name in measured.get("engines", {}) for measured in found.values())]
    if len(set(own)) > 1 and common:
        found = {who: {"engine": common[0], **measured["engines"][common[0]]} for who, measured in found.items()}
    wanted = ("engine", "examples_per_second", "tokens_per_second", "beams", "other_work")
    return {
        who: {name: measured[name] for name in wanted if name in measured} | _latency(measured)
        for who, measured in found.items()
    }


def _latency(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Of what writes nothing: how long it takes for an answer depends on no search."""
    own = measured.get("engines", {}).get(measured.get("engine"), {})
    return {"latency_ms": own["latency_ms"]} if "latency_ms" in own and "beams" not in own else {}


def disturbed(compared: Mapping[Any, Mapping[str, Any]]) -> bool:
    """Was one of these speeds measured beside other work?"""
    return any(found.get("other_work", 0.0) > QUIET for found in compared.values())


def _speedup(compared: Mapping[str, Mapping[str, Any]]) -> float | None:
    """None: not both were measured, or by different engines."""
    if compared.keys() != {"teacher", "student"} or len({found.get("engine") for found in compared.values()}) > 1:
        return None
    return float(compared["student"]["examples_per_second"]) / float(compared["teacher"]["examples_per_second"])
