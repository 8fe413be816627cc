"""A teacher too large for one device: its weights are shared out among the ranks (ZeRO-3 without an optimizer).

A module that runs has its weights whole for that long. Gathering is done by all ranks together, so each of them
must run the same modules in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class _Pass(nn.Module):
    """What DeepSpeed sees: one forward is one pass, whatever of the model it runs. So the order in which weights are
    gathered is the same from pass to pass, and those that come next can be fetched ahead."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], Any]) -> Any:
        return work()


def shard(model: nn.Module, config: Mapping[str, Any]) -> Any:
    """The engine of a frozen model, whose weights are each rank's share from now on. Call it with what is to be done
    with the model; it returns the result."""
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    passes = _Pass(model).eval()
    # One weight after the other: the engine by itself would move all of them to the device first.
    deepspeed.zero.Init(module=passes, config_dict_or_path=dict(config))
    for buffer in model.buffers():
        buffer.data = buffer.data.to(get_accelerator().current_device_name())
    engine, *_ = deepspeed.initialize(model=passes, config=dict(config))
    return engine.eval()


@contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """Within it the weights of a sharded module are there on every rank. Not within a pass."""
    import deepspeed

    with torch.no_grad(), deepspeed.zero.GatheredParameters(list(module.parameters())):
        yield
