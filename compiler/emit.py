"""A plan -> its folder: plan.json, deepspeed.<stage>.json, launch.sh, lock.yaml."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .launch import launch_script
from .lock import lock_text, make_lock

SCHEMA = Path(__file__).resolve().parent.parent / "schema" / "plan.schema.json"


def emit(plan: Mapping[str, Any], folder: Path) -> Path:
    """Write a plan folder, each file whole or not at all; returns the folder.

    Raises `ValueError` when the plan does not fit `schema/plan.schema.json`, which is a mistake in distilc,
    and `OSError` when the folder cannot be written.
    """
    validate_plan(plan)
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "plan.json": plan_text(plan),
        "lock.yaml": lock_text(make_lock(plan)),
        "launch.sh": launch_script(plan),
    }
    for stage in plan["stages"]:
        if stage["execution"]["deepspeed"] is not None:
            files[f"deepspeed.{stage['id']}.json"] = plan_text(stage["execution"]["deepspeed"])
    for stale in folder.glob("deepspeed.*.json"):
        if stale.name not in files:
            stale.unlink()  # of a plan that was compiled here before
    for name, text in files.items():
        temporary = folder / f".{name}.{os.getpid()}"
        temporary.write_text(text, "utf-8")
        if name.endswith(".sh"):
            temporary.chmod(0o755)
        temporary.replace(folder / name)
    return folder


def plan_text(tree: Mapping[str, Any]) -> str:
    """Canonical JSON for people: sorted keys, one form of every number, a newline at the end."""
    return json.dumps(tree, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def validate_plan(plan: Mapping[str, Any]) -> None:
    """Hold a plan to its schema. Raises `ValueError` naming the first thing that does not fit."""
    from jsonschema import Draft202012Validator

    schema = json.loads(SCHEMA.read_text("utf-8"))
    for error in Draft202012Validator(schema).iter_errors(plan):
        raise ValueError(f"the plan does not fit its schema at {error.json_path}: {error.message}")
