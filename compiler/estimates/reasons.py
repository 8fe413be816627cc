"""Why a training runs as it does, in words: ZeRO stage, the teacher's weights, checkpointing."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from .memory import GIB, available, choose, lowest_zero, memory_table, teacher_bytes
from .workload import Workload


def placement_reason(load: Workload, zero: Literal["auto"] | int, micro_batch_tokens: int | None = None) -> str:
    """All of it, of a load with what the site says."""
    chosen, _, tokens = choose(load, zero, micro_batch_tokens)
    reasons = [zero_reason(load, zero, micro_batch_tokens)]
    if load.teaching is not None and (load.shard_teacher != "auto" or chosen.shard_teacher):
        reasons.append(_teacher_reason(load, chosen))
    if load.checkpointing != "auto" or chosen.checkpointing:
        reasons.append(_checkpointing_reason(load, chosen, tokens))
    return "; ".join(reasons)


def zero_reason(load: Workload, zero: Literal["auto"] | int, micro_batch_tokens: int | None = None) -> str:
    """Why the load runs at its ZeRO stage."""
    if zero != "auto":
        return f"stage {zero}: the site says so"
    chosen_load, chosen, tokens = choose(load, "auto", micro_batch_tokens)
    floor = lowest_zero(load)
    least = "the lowest"
    if floor:
        least = f"{load.precision} needs 1 or more" if load.offload == "none" else f"offload: {load.offload} needs it"
    if load.memory_gb is None:
        return f"stage {chosen}: {least}; the memory of a device is not known"
    if load.world == 1:
        return f"stage {chosen}: {least}; single device, nothing to shard across"
    room = available(load) / GIB
    needs = {stage: memory_table(chosen_load, stage, tokens).total / GIB for stage in range(floor, 4)}
    with_tokens = f"with {tokens:,} tokens at a time"
    if needs[chosen] > room:
        return f"stage {chosen}: none fits {with_tokens}; this one needs least, {needs[chosen]:.1f} GiB of {room:.1f}"
    if chosen == floor:
        return f"stage {chosen}: {least}, and it fits"
    words = ", ".join(f"{stage} needs {needs[stage]:.1f} GiB" for stage in range(floor, chosen))
    return f"stage {chosen}: {words} of {room:.1f} {with_tokens}"


def _teacher_reason(load: Workload, chosen: Workload) -> str:
    if not load.teacher_can_be_sharded:
        return "teacher whole: single device, nothing to shard across"
    whole = teacher_bytes(replace(load, shard_teacher=False)) / GIB
    if not chosen.shard_teacher:
        return "teacher whole: the site says so"
    where = "in the memory of the host" if load.offload == "parameters" else f"over {load.world} devices"
    why = "the site says so" if load.shard_teacher != "auto" else "it does not fit as a whole beside the student"
    return f"teacher sharded {where}, {teacher_bytes(chosen) / GIB:.1f} GiB instead of {whole:.1f}: {why}"


def _checkpointing_reason(load: Workload, chosen: Workload, tokens: int) -> str:
    if not chosen.checkpointing:
        return "checkpointing off: the site says so"
    why = "the site says so" if load.checkpointing != "auto" else f"without, not even {tokens:,} tokens at a time fit"
    return f"checkpointing on: {why}"
