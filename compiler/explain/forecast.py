"""What a plan will take: memory of one device, disk, arithmetic, time. All of it is an estimate."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from ..estimates.devices import GENERATION_UTILISATION, TRAINING_UTILISATION, Device, shown_devices
from ..estimates.effort import label_effort, row_flops, training_effort
from ..estimates.memory import GIB, MemoryTable, available, lowest_zero, most_tokens, zero_tables
from ..estimates.reasons import placement_reason
from ..estimates.workload import Workload, training_workload
from ..plan.plan import Plan, Stage
from ..plan.plan_sizes import data_size, rows_of, trained_size
from ..plan.signals import possible_bytes
from ..resolve.architecture import Architecture
from ..resolve.data_sizes import CHARACTERS_PER_TOKEN, DataSize
from ..resolve.fingerprint import UNRESOLVED
from ..resolve.site import Site

GB = 10**9  # of disk; memory is in GiB

_LABEL_RECORD_BYTES = 100  # id, score and quality of a label, and the JSON around them
_RESUMABLE_CHECKPOINTS = 2


def forecast_memory(plan: Plan) -> dict[str, dict[str, Any]]:
    """Training stage -> its ZeRO stage, micro-batch and memory of one device in GiB, by what it is for;
    `shard_teacher`, `checkpointing`, `offload`: how it saves memory; `stages`: the same for all four ZeRO stages
    with that micro-batch; `reason`: why so."""
    tables: dict[str, dict[str, Any]] = {}
    for id, stage in plan.stages.items():
        deepspeed, tokens = stage.execution.deepspeed, stage.execution.micro_batch_tokens
        if deepspeed is None or tokens is None:
            continue
        load, chosen = _workload(plan, stage), deepspeed["zero_optimization"]["stage"]
        stages = {str(zero): _shown(load, zero, table) for zero, table in zero_tables(load, tokens).items()}
        tables[id] = {
            "zero": chosen,
            "micro_batch_tokens": tokens,
            **{name: value for name, value in stages[str(chosen)].items() if name.endswith("_gb")},
            "usable_gb": None if load.memory_gb is None else _gib(available(load)),
            "stages": stages,
            "shard_teacher": load.shard_teacher,
            "checkpointing": load.checkpointing,
            "offload": load.offload,
            "reason": _reason(load, plan.site),
        }
    return tables


def forecast_effort(plan: Plan) -> dict[str, dict[str, Any]]:
    """Stage -> what it takes, for those that train or write labels. "unresolved": the data are not known
    well enough.

    `rows`, `steps` and `tokens` until the last epoch or step; `petaflops`; `hours` of one device, by its
    name; `disk_gb` at the peak, of labels or checkpoints; `signals_gb`: what the states of the teacher would
    take, by side, all kept.
    """
    devices = shown_devices(plan.site.device, plan.site.device_name)
    efforts: dict[str, dict[str, Any]] = {}
    for id, stage in plan.stages.items():
        if stage.kind == "pseudo-labels" and stage.settings["source"] == "model":
            efforts[id] = _labels(plan, stage, devices)
        elif stage.kind == "train":
            efforts[id] = _training(plan, stage, devices)
    return efforts


def forecast_total(plans: Sequence[Plan]) -> dict[str, Any]:
    """All runs together; what they share is counted once. `stages`: those that train or write labels,
    `shared`: the others of that kind that are one of them again, `unresolved`: those of unknown size."""
    known: set[str] = set()
    shared = unresolved = 0
    petaflops = disk_gb = 0.0
    hours: dict[str, float] = {}
    for plan in plans:
        for id, effort in forecast_effort(plan).items():
            key = plan.stages[id].key
            if key in known:
                shared += 1
                continue
            known.add(key)
            if effort["petaflops"] == UNRESOLVED:
                unresolved += 1
                continue
            petaflops += effort["petaflops"]
            disk_gb += effort["disk_gb"]
            for device, value in effort["hours"].items():
                hours[device] = hours.get(device, 0.0) + value
    return {
        "runs": len(plans),
        "stages": len(known),
        "shared": shared,
        "unresolved": unresolved,
        "petaflops": _rounded(petaflops),
        "hours": {device: _rounded(value) for device, value in hours.items()},
        "disk_gb": _rounded(disk_gb),
    }


def _training(plan: Plan, stage: Stage, devices: Sequence[Device]) -> dict[str, Any]:
    settings, shape, teaching, size = stage.settings, stage.model, stage.teaching, trained_size(plan, stage)
    assert shape is not None  # a training publishes a model
    effort = None if size is None else training_effort(settings, shape, teaching, size)
    mixed = (1.0, 1.0) if size is None else (size.source_tokens, size.target_tokens)
    per_token = row_flops(shape, settings["freeze"], teaching, *mixed) / sum(mixed)
    found: dict[str, Any] = {
        "rows": UNRESOLVED if size is None else size.rows,
        "steps": UNRESOLVED if effort is None else effort.steps,
        "tokens": UNRESOLVED if effort is None else effort.tokens,
        **_arithmetic(None if effort is None else effort.flops, settings["precision"], TRAINING_UTILISATION, devices),
        "gigaflops_per_token": round(per_token / 1e9, 6),
        "disk_gb": _rounded(checkpoint_bytes(shape, settings["freeze"]) / GB),
        "data": UNRESOLVED if size is None else size.origin,
    }
    if stage is plan.train:
        sizes = possible_bytes(plan)
        found["signals_gb"] = (
            UNRESOLVED if sizes is None else {side: _rounded(number / GB) for side, number in sizes.items()}
        )
    return found


def _labels(plan: Plan, stage: Stage, devices: Sequence[Device]) -> dict[str, Any]:
    settings, size = stage.settings, data_size(plan, rows_of(plan, stage))
    model = plan.stages.needed(stage, "model").model
    assert model is not None
    effort = None if size is None else label_effort(settings, model, size)
    return {
        "rows": UNRESOLVED if size is None else size.rows,
        "tokens": UNRESOLVED if effort is None else effort.tokens,
        **_arithmetic(None if effort is None else effort.flops, settings["precision"], GENERATION_UTILISATION, devices),
        "disk_gb": UNRESOLVED if size is None else _rounded(label_bytes(size) / GB),
        "data": UNRESOLVED if size is None else size.origin,
    }


def _arithmetic(flops: float | None, precision: str, utilisation: float, devices: Sequence[Device]) -> dict[str, Any]:
    if flops is None:
        return {"petaflops": UNRESOLVED, "hours": {device.name: UNRESOLVED for device in devices}}
    hours = {device.name: _rounded(device.hours(flops, precision, utilisation)) for device in devices}
    return {"petaflops": _rounded(flops / 1e15), "hours": hours}


def _workload(plan: Plan, stage: Stage) -> Workload:
    data = rows_of(plan, stage).settings
    lengths = data["max_source_tokens"], data["max_target_tokens"]
    assert stage.model is not None
    load = training_workload(stage.settings, stage.model, plan.site, lengths=lengths, teaching=stage.teaching)
    run = stage.execution
    return replace(load, shard_teacher=run.teacher_deepspeed is not None, checkpointing=run.checkpointing)


def _reason(load: Workload, site: Site) -> str:
    wanted = replace(load, shard_teacher=site.shard_teacher, checkpointing=site.checkpointing)
    return placement_reason(wanted, site.zero, site.micro_batch_tokens)


def _shown(load: Workload, zero: int, table: MemoryTable) -> dict[str, Any]:
    known = load.memory_gb is not None
    return {
        **{f"{name}_gb": _gib(value) for name, value in table.parts().items()},
        "total_gb": _gib(table.total),
        "possible": zero >= lowest_zero(load),
        "fits": table.total <= available(load) if known else None,
        "most_tokens": most_tokens(load, zero) if known else None,
    }


def _gib(size: float) -> float:
    return round(size / GIB, 4)


def _rounded(value: float) -> float:
    """Four significant figures: no estimate has more."""
    return float(f"{value:.4g}")


def checkpoint_bytes(shape: Architecture, freeze: Collection[str]) -> int:
    """At the peak of a training: the best checkpoint in fp32 and two resumable ones (master weights and
    moments of what is trained)."""
    return 4 * shape.parameters + _RESUMABLE_CHECKPOINTS * 12 * shape.trainable(freeze)


def label_bytes(size: DataSize) -> int:
    """Pseudo-labels for every row of a training set, as long as its targets."""
    return round(size.rows * (size.target_tokens * CHARACTERS_PER_TOKEN + _LABEL_RECORD_BYTES))
