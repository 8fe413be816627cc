"""Which states of the teacher are kept for a run, how many bytes they take, and why."""

from __future__ import annotations

from typing import Any

from ..estimates.candidates import candidate_bytes, exact_token_bytes, token_bytes
from ..plan.plan import Plan
from ..plan.plan_sizes import trained_size
from ..plan.signals import NOT_NEEDED, SIDES, choose_signals, num_states, why_not_kept
from ..tasks.task import TASKS


def signals_of_run(plan: Plan) -> dict[str, dict[str, Any]]:
    """Side -> kept, states of each token, bytes (None: the data are not known), why. {} where nothing is ever
    kept, and nothing asked."""
    task = TASKS[plan.experiment.task]
    if task.has_masking and "teacher" in plan.train.needs:
        masked = "what the teacher reads is masked anew in each epoch"
        return {"encoder": {"kept": False, "states": None, "bytes": None, "why": masked}}
    if not task.writes_texts:
        return {}
    chosen = {signals.side: signals for signals in choose_signals([plan])}
    found: dict[str, dict[str, Any]] = {}
    for side in SIDES:
        signals, why = chosen.get(side), why_not_kept(plan, side)
        found[side] = {
            "kept": side in plan.train.execution.signals,
            "states": None if signals is None else num_states(signals),
            "bytes": None if signals is None else signals.num_bytes,
            "why": why or ("" if signals is None else signals.why),
        }
    return found


def signal_lines(plan: Plan) -> list[str]:
    """A line for each side that there is anything to say about, and one for candidates."""
    lines = []
    for side, found in signals_of_run(plan).items():
        kept = "kept and read again" if found["kept"] else "computed at every step"
        if found["why"] in NOT_NEEDED:
            kept = "not needed"
        lines.append(f"  {side}: {kept}: {found['why']}")
    if (candidates := candidates_of_run(plan)) is not None:
        number, vocabulary = candidates["number"], candidates["vocabulary"]
        kind = "most probable" if candidates["kind"] == "top-k" else "drawn"
        size = "the size of the data is not known"
        if candidates["bytes"] is not None:
            size = f"{candidates['bytes'] / 1e9:.3g} GB"
        each = f"{candidates['token_bytes']:,} bytes a token, the exact states {candidates['exact_token_bytes']:,}"
        lines.append(f"  candidates: the {number:,} {kind} of {vocabulary:,} tokens, kept: {size}; {each}")
    return ["states of the teacher:", *lines] if lines else []


def candidates_of_run(plan: Plan) -> dict[str, Any] | None:
    """What is kept of the teacher's next tokens, and its bytes (None: the data are not known) beside those of the
    states that would give all of them; None: all tokens are compared."""
    train = plan.train
    if "candidates" not in train.needs:
        return None
    settings, size = plan.stages.needed(train, "candidates").settings, trained_size(plan, train)
    candidates = settings["candidates"]
    return {
        **candidates,
        "bytes": None if size is None else candidate_bytes(settings, size),
        "token_bytes": token_bytes(candidates["kind"], candidates["number"]),
        "exact_token_bytes": exact_token_bytes(plan.found.teacher.architecture, settings["precision"]),
    }
