"""LayerDrop (arXiv 1909.11556): while a model is trained its layers are passed over, so that it can do without any."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..models.families import layers, stacks
from ..protocol import Method, MethodKind
from .method import passed_over


class LayerDrop:
    """In each step every layer that is trained is passed over with the probability `rate`: its output is its input.

    The draws depend on the seed and the step alone, so they are the same on every rank, and after a resumption.
    `dropped`: the layers that the step at hand passes over, by stack."""

    def __init__(self, at: Callable[[int], Mapping[str, Any]], seed: int) -> None:
        self._at, self._seed = at, seed
        self._depths: dict[str, int] = {}
        self.dropped: dict[str, frozenset[int]] = {}

    def begin(self, student: nn.Module, teacher: nn.Module | None) -> None:
        for stack in stacks(student):
            found = layers(student, stack)
            self._depths[stack] = len(found)
            for index, layer in enumerate(found):
                if any(parameter.requires_grad for parameter in layer.parameters()):
                    layer.forward = partial(self._run, stack, index, layer, layer.forward)

    def before_step(self, step: int) -> None:
        random = np.random.default_rng([self._seed, step])
        rate = self._at(step)["rate"]
        for stack, depth in self._depths.items():
            self.dropped[stack] = frozenset(np.flatnonzero(random.random(depth) < rate).tolist())

    def _run(
        self, stack: str, index: int, layer: nn.Module, forward: Callable[..., Any], *arguments: Any, **named: Any
    ) -> Any:
        if index not in self.dropped.get(stack, ()):
            return forward(*arguments, **named)
        states: Tensor = arguments[0] if arguments else named["hidden_states"]
        return passed_over(layer, states, lambda: forward(*arguments, **named), lambda states: states)

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        pass

    @contextmanager
    def plain(self) -> Iterator[None]:
        before, self.dropped = self.dropped, {}
        try:
            yield
        finally:
            self.dropped = before


def _make(at: Callable[[int], Mapping[str, Any]], seed: int) -> Method:
    return LayerDrop(at, seed)


LAYER_DROP = MethodKind(make=_make)
