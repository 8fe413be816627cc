"""What a plan will take, from the plan alone: memory of one device, disk, arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .architecture import Architecture
from .estimate import GIB, Workload, memory_table, token_flops, training_disk_bytes
from .reference import planned_architecture

Plan = Mapping[str, Any]


def stage_architecture(plan: Plan, id: str) -> Architecture:
    """The shape of the model that a stage of kind teacher, student or train publishes. Raises OSError or
    `ArchitectureError` when a model folder that the plan was compiled from has gone."""
    stage = _stage(plan, id)
    settings = stage["settings"]
    if stage["kind"] == "train":
        return stage_architecture(plan, stage["needs"]["model"])
    if stage["kind"] == "teacher":
        return planned_architecture(stage, plan["task"])
    teacher = stage_architecture(plan, stage["needs"]["teacher"])
    return teacher.changed(settings["family"], settings["config"])


def forecast_memory(plan: Plan) -> dict[str, dict[str, float]]:
    """Training stage -> its ZeRO stage, micro-batch and memory of one device in GiB, by what it is for."""
    site = plan["site"]
    tables: dict[str, dict[str, float]] = {}
    for stage in plan["stages"]:
        if stage["kind"] != "train":
            continue
        settings, execution = stage["settings"], stage["execution"]
        zero = execution["deepspeed"]["zero_optimization"]
        offload = "optimizer" if "offload_optimizer" in zero else "none"
        if "offload_param" in zero:
            offload = "parameters"
        load = Workload(
            architecture=stage_architecture(plan, stage["id"]),
            freeze=tuple(settings["freeze"]),
            precision=settings["precision"],
            optimizer=settings["optimizer"]["name"],
            offload=offload,  # type: ignore[arg-type]
            world=site["nodes"] * site["per_node"],
            per_node=site["per_node"],
            device=site["device"],
            memory_gb=None,
        )
        table = memory_table(load, zero["stage"], execution["micro_batch_tokens"])
        tables[stage["id"]] = {
            "zero": zero["stage"],
            "micro_batch_tokens": execution["micro_batch_tokens"],
            **{f"{name}_gb": _gb(value) for name, value in vars(table).items()},
            "total_gb": _gb(table.total),
        }
    return tables


def forecast_effort(plan: Plan) -> dict[str, dict[str, float]]:
    """Training stage -> disk at its peak in GiB, and billions of operations for each token trained on."""
    efforts: dict[str, dict[str, float]] = {}
    for stage in plan["stages"]:
        if stage["kind"] == "train":
            architecture, freeze = stage_architecture(plan, stage["id"]), stage["settings"]["freeze"]
            efforts[stage["id"]] = {
                "disk_gb": _gb(training_disk_bytes(architecture, freeze)),
                "gigaflops_per_token": round(token_flops(architecture, freeze) / 1e9, 6),
            }
    return efforts


def _stage(plan: Plan, id: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(stage for stage in plan["stages"] if stage["id"] == id)
    return found


def _gb(size: float) -> float:
    return round(size / GIB, 4)
