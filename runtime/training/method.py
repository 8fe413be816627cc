"""How a student is trained, beside what it is trained on: a way to train acts on it before each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..extensions import Registry
from ..failure import Failure
from ..plan.settings import MethodSettings
from ..protocol import Method, MethodKind
from .schedule import changes_of

METHODS: Registry[MethodKind] = Registry("methods", MethodKind)


def method_of(
    settings: MethodSettings, seed: int, num_steps: int, steps_in: Callable[[float], int], path: str = "training.method"
) -> Method:
    """The way to train that a plan names. `num_steps`: the most there can be; `steps_in`: of so many epochs;
    `path`: where the spec names it.

    Raises `Failure` R350 (a schedule that does not end after it begins), R359: nobody registers it."""
    if settings.name not in METHODS:
        raise Failure("R359", f"there is no way to train {settings.name} in this release", "remove it", spec_path=path)
    changes = changes_of(settings.schedules, num_steps, steps_in, f"{path}.{settings.name}")

    def at(step: int) -> Mapping[str, Any]:
        return {**settings.settings, **{name: change.at(step) for name, change in changes.items()}}

    return METHODS[settings.name].make(at, seed)


def passed_over(layer: nn.Module, states: Tensor, compute: Callable[[], Any], instead: Callable[[Any], Any]) -> Any:
    """What a layer gives in a step in which something else stands `instead` of it.

    Its parameters get a gradient of exactly 0: without one a sharded optimizer would step with the last one that there
    was. A layer of ZeRO 3, whose weights are gathered by all ranks when it is run, is run all the same, and what it
    gives is not taken. states (B, S, d): what the layer is given. `instead(states)` is what stands for its output."""
    trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    if any(hasattr(parameter, "ds_id") for parameter in trained):
        unused = states_of(compute())
        nothing = torch.where(torch.zeros((), dtype=torch.bool, device=unused.device), unused, torch.zeros_like(unused))
        return instead(states + nothing)
    nothing = (
        torch.stack([parameter.flatten()[:0].sum() for parameter in trained]).sum() if trained else states[:0].sum()
    )
    return instead(states + nothing.to(states.dtype))


def states_of(output: Any) -> Tensor:
    """The states (B, S, d) of what a layer gives: they alone, or first."""
    found: Tensor = output if isinstance(output, Tensor) else output[0]
    return found
