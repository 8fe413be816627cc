"""Which engine writes the texts that are scored and timed, and why: what `explain` says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..resolve.engines import why_transformers
from ..resolve.site import Site
from ..spec.bind import bind
from ..spec.experiment import Generation

Plan = Mapping[str, Any]

AT_RUN_TIME = "the run takes transformers where the model's own generation settings need it"


def engines_of_run(plan: Plan, site: Site | None) -> dict[str, dict[str, Any]]:
    """Of each row of the result table whose texts are written: engine, compute type (None: as the run's precision),
    and why. {} where a task has no texts. `site` None: why it is transformers is not known."""
    found: dict[str, dict[str, Any]] = {}
    for stage in plan["stages"]:
        settings = stage["settings"]
        if stage["kind"] != "evaluate" or settings["split"] != "test" or settings["generation"] is None:
            continue
        who, generation = stage["id"].removeprefix("evaluate-"), settings["generation"]
        why = "" if generation.get("named") else AT_RUN_TIME
        if generation["engine"] == "transformers":
            left = bind(Generation, {**generation, "engine": "auto"})
            forced = "" if site is None else why_transformers(left, plan[who]["family"], settings["precision"], site)
            why = forced or ("" if site is None else "the spec asks for it")
        found[who] = {"engine": generation["engine"], "compute_type": generation.get("compute_type"), "why": why}
    return found


def engine_lines(plan: Plan, site: Site | None) -> list[str]:
    """A line for each model whose texts are scored and, if it is, timed."""
    lines = []
    for who, found in engines_of_run(plan, site).items():
        engine = " ".join(filter(None, (found["engine"], found["compute_type"])))
        lines.append(f"  {who}: {engine}" + (f" ({found['why']})" if found["why"] else ""))
    timed = any(stage["kind"] == "benchmark" for stage in plan["stages"])
    return [f"texts of the evaluation{' and of the speed' if timed else ''} are written by:", *lines] if lines else []
