"""A plan and its summary -> the README.md of the student's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..extensions import TASKS
from ..models.families import FAMILIES
from ..plan.plan import Plan
from .table import table_markdown


def model_card(plan: Plan, summary: Mapping[str, Any]) -> str:
    """Front matter for the hub, the result table, how it was made, how to load it, and the whole spec."""
    student, teacher = plan.student, plan.teacher
    stacks = FAMILIES[student.family].stacks
    depth = " and ".join(f"{getattr(student, f'{stack}_layers')} {stack}" for stack in stacks)
    lines = [
        *_front_matter(plan),
        f"# {plan.name}",
        "",
        f"A {student.family} model with {depth} layers "
        f"({student.parameters / 1e6:.1f}M parameters), distilled from {_teacher_name(plan)} "
        f"({teacher.shape}, {teacher.parameters / 1e6:.1f}M) for {plan.task}.",
        "",
        "## Results",
        "",
        table_markdown(summary).rstrip(),
        "",
        "## Use",
        "",
        "```python",
        'folder = "."  # the folder of this file',
        *TASKS[plan.task].usage(_example_input(plan)),
        "```",
        "",
        "## How it was made",
        "",
        *(f"- {stack} layers copied from the teacher's: {_layers(getattr(plan.copy, stack))}" for stack in stacks),
        *(f"- teacher layers that supervise the {stack} (φ): {_layers(getattr(plan.phi, stack))}" for stack in stacks),
        f"- trained parameters: {student.trainable_parameters / 1e6:.1f}M; seed {plan.seed}",
        f"- plan key: `{plan.key}`",
        *(f"- MLflow run: `{run_id}`" for run_id in [summary["mlflow_run_id"]] if run_id),
        "",
        "<details><summary>The resolved spec</summary>",
        "",
        "```json",
        json.dumps(plan.spec, indent=1, ensure_ascii=False, default=str, allow_nan=False),
        "```",
        "",
        "</details>",
    ]
    return "\n".join(lines) + "\n"


def _front_matter(plan: Plan) -> list[str]:
    """YAML, from words that need no care but the hub's name of the teacher, which is quoted as JSON is."""
    lines = ["---", "library_name: transformers", "tags:", "- distillation", "- distilc", f"- {plan.student.family}"]
    lines.append(f"pipeline_tag: {TASKS[plan.task].pipeline}")
    repository = _repository(plan)
    if repository is not None:
        lines.append(f"base_model: {json.dumps(repository, allow_nan=False)}")
    return [*lines, "---", ""]


def _repository(plan: Plan) -> str | None:
    """The teacher's repository on the hub, when it comes from there."""
    return next((stage.settings.repository for stage in plan.stages if stage.id == "teacher"), None)


def _teacher_name(plan: Plan) -> str:
    repository = _repository(plan)
    return f"`{repository}`" if repository is not None else f"a {plan.teacher.family} teacher"


def _example_input(plan: Plan) -> str:
    prefix = next((stage.settings.prefix for stage in plan.stages if stage.id == "data"), "")
    return json.dumps(f"{prefix}Text goes here.", ensure_ascii=False, allow_nan=False)


def _layers(layers: Sequence[int] | None) -> str:
    return "none" if layers is None else ", ".join(map(str, layers))
