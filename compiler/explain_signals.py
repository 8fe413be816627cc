"""Which states of the teacher are kept for a run, how many bytes they take, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .plan_models import stage_of
from .signals import SIDES, WITH_DECODER, choose_signals, num_states, why_not_kept
from .site import Site

Plan = Mapping[str, Any]


def signals_of_run(plan: Plan, site: Site | None) -> dict[str, dict[str, Any]]:
    """Side -> kept, states of each token, bytes (None: the data are not known), why. {} where a task has no decoder.
    `site` None: what the plan says is all there is to say."""
    if plan["task"] not in WITH_DECODER:
        return {}
    read = stage_of(plan, "train")["execution"].get("signals", {})
    chosen = {} if site is None else {signals.side: signals for signals in choose_signals([plan], site)}
    found: dict[str, dict[str, Any]] = {}
    for side in SIDES:
        signals, why = chosen.get(side), why_not_kept(plan, side)
        found[side] = {
            "kept": side in read,
            "states": None if signals is None else num_states(signals),
            "bytes": None if signals is None else signals.num_bytes,
            "why": why or ("as compiled" if signals is None else signals.why),
        }
    return found


def signal_lines(plan: Plan, site: Site | None) -> list[str]:
    """A line for each side that there is anything to say about."""
    lines = []
    for side, found in signals_of_run(plan, site).items():
        kept = "kept and read again" if found["kept"] else "computed at every step"
        lines.append(f"  {side}: {kept}: {found['why']}")
    return ["states of the teacher:", *lines] if lines else []
