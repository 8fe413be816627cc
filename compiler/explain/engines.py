"""Which engine writes the texts that are scored and timed, and why: what `explain` says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..plan.plan import Plan
from ..resolve.engines import why_transformers
from ..tasks.task import TASKS

AT_RUN_TIME = "the run takes transformers where the model's own generation settings need it"


def engines_of_run(plan: Plan) -> dict[str, dict[str, Any]]:
    """Of each row of the result table whose texts are written, or whose model is served in another form: engine,
    compute type (None: as the run's precision), and why."""
    found: dict[str, dict[str, Any]] = {}
    evaluation = plan.experiment.evaluation
    of_teacher = evaluation.of_teacher(plan.experiment.teacher.architecture is not None)
    asked = {
        "teacher": (of_teacher, plan.found.teacher.architecture.family),
        "student": (evaluation.generation, plan.found.student.architecture.family),
    }
    for id, stage in plan.stages.items():
        settings = stage.settings
        if stage.kind != "evaluate" or settings["split"] != "test":
            continue
        who, generation = id.removeprefix("evaluate-"), settings["generation"]
        if "served" in settings:
            found[who] = {**settings["served"], "why": ""}
        if generation is None:
            continue
        why = "" if generation.get("named") else AT_RUN_TIME
        if generation["engine"] == "transformers":
            wanted, family = asked[who]
            left = replace(wanted, engine="auto")
            why = why_transformers(left, family, settings["precision"], plan.site) or "the spec asks for it"
        found[who] = {"engine": generation["engine"], "compute_type": generation.get("compute_type"), "why": why}
    return found


def engine_lines(plan: Plan) -> list[str]:
    """A line for each model that is scored and, if it is, timed: of those that write texts, and of other forms."""
    lines = []
    for who, found in engines_of_run(plan).items():
        engine = " ".join(filter(None, (found["engine"], found["compute_type"])))
        lines.append(f"  {who}: {engine}" + (f" ({found['why']})" if found["why"] else ""))
    timed = any(stage.kind == "benchmark" for stage in plan.stages.values())
    head = f"texts of the evaluation{' and of the speed' if timed else ''} are written by:"
    if not TASKS[plan.experiment.task].writes_texts:
        head = f"the student is evaluated{' and timed' if timed else ''} as it is served, too:"
    return [head, *lines] if lines else []
