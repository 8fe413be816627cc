"""How a stage runs on this site: micro-batch, ZeRO stage, DeepSpeed's config. Nothing of it is in a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .architecture import Architecture
from .deepspeed_config import deepspeed_config
from .estimate import Workload, choose_micro_batch_tokens, choose_zero
from .site import Site


def workload(settings: Mapping[str, Any] | None, architecture: Architecture, site: Site) -> Workload:
    """The load of a `train` stage's settings on the site; None: a model that only generates, in fp32."""
    frozen = ("encoder", "embeddings", "positions")
    return Workload(
        architecture=architecture,
        freeze=frozen if settings is None else tuple(settings["freeze"]),
        precision="fp32" if settings is None else settings["precision"],
        optimizer="adamw" if settings is None else settings["optimizer"]["name"],
        offload="none" if settings is None else site.offload,
        world=site.nodes * site.per_node,
        device=site.device,
        per_node=site.per_node,
        memory_gb=site.memory_gb,
    )


def placement(settings: Mapping[str, Any] | None, architecture: Architecture, site: Site) -> dict[str, Any]:
    """The `execution` of a `train` stage, without locations. None: of a model that only generates."""
    load = workload(settings, architecture, site)
    zero = choose_zero(load) if site.zero == "auto" else site.zero
    tokens = site.micro_batch_tokens or choose_micro_batch_tokens(load, zero)
    if settings is None:
        return {"micro_batch_tokens": tokens}
    config = deepspeed_config(
        precision=settings["precision"],
        gradient_clipping=settings["gradient_clipping"],
        zero=zero,
        offload=site.offload,
    )
    return {"micro_batch_tokens": tokens, "save_minutes": site.save_minutes, "deepspeed": config}
