"""How a stage runs on this site: micro-batch, ZeRO stage, a sharded teacher, checkpointing, DeepSpeed's configs.
Nothing of it is in a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..resolve.architecture import Architecture
from ..resolve.site import Site
from .deepspeed_config import deepspeed_config, teacher_config
from .memory import MICRO_BATCH_TOKENS, choose_micro_batch_tokens, place
from .workload import Teaching, Workload, training_workload


def placement(
    settings: Mapping[str, Any] | None,
    architecture: Architecture,
    site: Site,
    *,
    lengths: tuple[int, int] | None = None,
    teaching: Teaching | None = None,
) -> dict[str, Any]:
    """The `execution` of a `train` stage, without locations. `settings` None: of a model that only generates.
    `lengths`: the longest source and target in tokens; `teaching`: what the objective asks of a teacher."""
    if settings is None:
        return {"micro_batch_tokens": site.micro_batch_tokens or _generation_tokens(architecture, site)}
    chosen = place(
        training_workload(settings, architecture, site, lengths=lengths, teaching=teaching),
        site.zero,
        site.micro_batch_tokens,
    )
    run: dict[str, Any] = {
        "micro_batch_tokens": chosen.micro_batch_tokens,
        "save_minutes": site.save_minutes,
        "deepspeed": deepspeed_config(
            precision=settings["precision"],
            gradient_clipping=settings["gradient_clipping"],
            zero=chosen.zero,
            offload=site.offload,
        ),
    }
    if chosen.shard_teacher:
        run["teacher_deepspeed"] = teacher_config(settings["precision"], site.offload)
    if chosen.checkpointing:
        run["checkpointing"] = True
    return run


def _generation_tokens(architecture: Architecture, site: Site) -> int:
    """The micro-batch of a model that generates, in fp32: that of a training of its decoder, which takes more.
    A CPU's is the usual one: nothing is kept for a backward."""
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
