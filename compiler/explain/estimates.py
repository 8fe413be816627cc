"""What a run will take, as tables: memory by ZeRO stage, and rows, steps, arithmetic, time and disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..estimates.devices import GENERATION_UTILISATION, TRAINING_UTILISATION
from ..plan.plan import Plan
from ..resolve.fingerprint import UNRESOLVED
from .forecast import forecast_effort, forecast_memory, forecast_total
from .text_table import table

PARTS = ("weights", "gradients", "optimizer", "teacher", "activations", "logits", "signals", "workspace", "total")
CHOSEN = "▸"
ORIGINS = {
    "counted": "counted in the files, the lengths in some rows",
    "store": "counted when the data were made",
    "files": "from the first rows of the files and their sizes",
    "published": "published figures of the data set",
    "corpus": "figures of the built-in corpus",
}


def memory_lines(plan: Plan) -> list[str]:
    """A table of the four ZeRO stages for each training, the chosen one marked."""
    site = plan.site
    one = "process" if site.device == "cpu" else "device"
    lines = [f"memory of one {one} in GiB, estimated: {site.nodes * site.per_node} x {site.device_name}"]
    for id, found in forecast_memory(plan).items():
        usable = "" if found["usable_gb"] is None else f", {found['usable_gb']:.1f} GiB to use"
        lines.append(f"  {id}: {found['micro_batch_tokens']:,} tokens at a time{usable}; {found['reason']}")
        rows = [["  ZeRO", *PARTS, ""]]
        for zero, stage in found["stages"].items():
            mark = CHOSEN if zero == str(found["zero"]) else " "
            rows.append([f"  {mark} {zero}", *(_size(stage[f"{part}_gb"]) for part in PARTS), _room(stage)])
        lines += table(rows, right=True, gap=2)
    return lines


def effort_lines(plan: Plan) -> list[str]:
    """A table of the stages that train or write labels."""
    efforts = forecast_effort(plan)
    devices = list(next(iter(efforts.values()))["hours"]) if efforts else []
    rows = [["stage", "rows", "steps", "tokens", "petaflops", *devices, "disk"]]
    for id, found in efforts.items():
        rows.append(
            [
                id,
                _whole(found["rows"]),
                _whole(found.get("steps")),
                _whole(found["tokens"]),
                _number(found["petaflops"]),
                *(_hours(found["hours"][device]) for device in devices),
                _disk(found["disk_gb"]),
            ]
        )
    lines = [
        f"estimate, at most: times of one device at {TRAINING_UTILISATION:.0%} of its peak in training and "
        f"{GENERATION_UTILISATION:.0%} in generation",
        *table(rows, right=True),
    ]
    train = efforts["train"]
    if train["data"] in ORIGINS:
        lines.append(f"  rows and lengths: {ORIGINS[train['data']]}")
    return lines


def total_line(plans: Sequence[Plan]) -> str:
    """All runs together, in one line."""
    found = forecast_total(plans)
    times = ", ".join(f"{_hours(hours)} on one {device}" for device, hours in found["hours"].items())
    shared = f", what runs share counted once ({found['shared']} stages spared)" if found["shared"] else ""
    left_out = f", stages of unknown size left out: {found['unresolved']}" if found["unresolved"] else ""
    return (
        f"estimate of all {found['runs']} runs: {_number(found['petaflops'])} petaflops"
        f"{f', {times}' if times else ''}, {_disk(found['disk_gb'])} of disk{shared}{left_out}"
    )


def _room(stage: Mapping[str, Any]) -> str:
    if not stage["possible"]:
        return "not possible here"
    if stage["fits"] is False:
        return "does not fit"
    return "" if stage["most_tokens"] is None else f"room for {stage['most_tokens']:,}"


def _size(value: float) -> str:
    return "-" if value == 0 else f"{value:.2f}"


def _whole(value: Any) -> str:
    return "-" if value is None else value if value == UNRESOLVED else f"{value:,}"


def _number(value: Any) -> str:
    if value == UNRESOLVED:
        return UNRESOLVED
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _hours(value: Any) -> str:
    """Minutes below two hours."""
    if value == UNRESOLVED:
        return UNRESOLVED
    if value * 60 < 1:
        return "< 1 min"
    return f"{value * 60:.0f} min" if value < 2 else f"{_number(value)} h"


def _disk(value: Any) -> str:
    if value == UNRESOLVED:
        return UNRESOLVED
    if value < 0.1:
        return f"{_number(value * 1000)} MB"
    return f"{_number(value)} GB"
