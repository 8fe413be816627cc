"""How a stage runs on this site: micro-batch, ZeRO stage, a sharded teacher, checkpointing, DeepSpeed's configs.
Nothing of it is in a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ..diagnostics.record import record
from ..resolve.architecture import Architecture
from ..resolve.site import Site
from .deepspeed_config import deepspeed_config, teacher_config
from .memory import MICRO_BATCH_TOKENS, choose_micro_batch_tokens, place
from .workload import Teaching, Workload, training_workload


@record
class Execution:
    """How a stage runs. `locations`: where what its settings name by fingerprint is found; `micro_batch_tokens` that a
    device takes at a time; `save_minutes` between checkpoints; `deepspeed`, `teacher_deepspeed`: the engines' configs;
    `checkpointing`: activations are computed again; `signals`: side -> key of the stage whose states are read."""

    locations: Mapping[str, str] = field(default_factory=dict)
    micro_batch_tokens: int | None = None
    save_minutes: float | None = None
    deepspeed: Mapping[str, Any] | None = None
    teacher_deepspeed: Mapping[str, Any] | None = None
    checkpointing: bool = False
    signals: Mapping[str, str] = field(default_factory=dict)


def training_placement(
    settings: Mapping[str, Any],
    architecture: Architecture,
    site: Site,
    *,
    lengths: tuple[int, int] | None = None,
    teaching: Teaching | None = None,
) -> Execution:
    """The execution of a `train` stage. `lengths`: the longest source and target in tokens; `teaching`: what the
    objective asks of a teacher."""
    chosen = place(
        training_workload(settings, architecture, site, lengths=lengths, teaching=teaching),
        site.zero,
        site.micro_batch_tokens,
    )
    precision = settings["precision"]
    return Execution(
        micro_batch_tokens=chosen.micro_batch_tokens,
        save_minutes=site.save_minutes,
        deepspeed=deepspeed_config(
            precision=precision,
            gradient_clipping=settings["gradient_clipping"],
            zero=chosen.zero,
            offload=site.offload,
        ),
        teacher_deepspeed=teacher_config(precision, site.offload) if chosen.shard_teacher else None,
        checkpointing=chosen.checkpointing,
    )


def generation_tokens(architecture: Architecture, site: Site) -> int:
    """The micro-batch of a model that generates, in fp32: that of a training of its decoder, which takes more.
    A CPU's is the usual one: nothing is kept for a backward."""
    if site.micro_batch_tokens is not None:
        return site.micro_batch_tokens
    if site.device == "cpu":
        return MICRO_BATCH_TOKENS[0]
    load = Workload(
        architecture=architecture,
        freeze=("encoder", "embeddings", "positions"),
        precision="fp32",
        optimizer="adamw",
        offload="none",
        world=site.nodes * site.per_node,
        per_node=site.per_node,
        device=site.device,
        memory_gb=site.memory_gb,
    )
    return choose_micro_batch_tokens(load, 0)
