"""Compiled plans, as they are named on the command line: found and read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os.path import isdir, isfile
from pathlib import Path
from typing import Any

from ..diagnostics.diagnostic import Position, Reporter
from ..diagnostics.regular_file import open_regular
from .plan import Stage, Stages

PLAN = "plan.json"


def is_plan(subject: Path) -> bool:
    """Is this a plan (its folder, its plan.json, or a folder of plan folders), not a spec?"""
    return subject.suffix == ".json" or isdir(subject)


def find_plans(subject: Path) -> list[Path]:
    """The plan folders that a name means: itself, or, of a folder without a plan.json, those in it."""
    if subject.suffix == ".json":
        return [subject]
    if isfile(subject / PLAN) or not isdir(subject):
        return [subject]
    return sorted(folder.parent for folder in subject.glob(f"*/{PLAN}")) or [subject]


def read_plan(folder: Path, reporter: Reporter) -> dict[str, Any] | None:
    """A plan. None: there is none that can be read, and E562 is reported."""
    from .emit import FORMAT, validate_plan

    file = folder / PLAN if isdir(folder) else folder
    try:
        with open_regular(file) as stream:
            plan = json.loads(stream.read().decode("utf-8"), parse_constant=_no_number)
    except OSError as error:
        message = f"cannot read the plan {file}: {error.strerror}"
    except (ValueError, RecursionError):
        message = f"{file} is damaged: it is not JSON"
    else:
        message = f"{file} is not a plan of format {FORMAT}"
        if isinstance(plan, dict) and plan.get("format") == FORMAT:
            try:
                validate_plan(plan)
                return plan
            except (ValueError, RecursionError) as error:
                message = f"{file} is damaged: {str(error).splitlines()[0]:.300}"
    reporter.error_at("E562", Position(str(file), 1, 1), message, "compile the spec again: distilc compile SPEC")
    return None


def read_stages(plan: Mapping[str, Any]) -> Stages:
    """The stages of a plan that was read."""
    keys = {stage["id"]: stage["key"] for stage in plan["stages"]}
    stages = {}
    for stage in plan["stages"]:
        needs = {role: keys.get(id, id) for role, id in stage["needs"].items()}
        stages[stage["id"]] = Stage(stage["kind"], stage["key"], stage["settings"], needs)
    return Stages(stages)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")
