"""BERT-of-Theseus (arXiv 2002.02925): a student's layers take the places of groups of the teacher's, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..models.families import layers, stacks
from ..protocol import Method, MethodKind
from .method import passed_over, states_of


class Theseus:
    """In each step every layer of the student stands for its group of the teacher's layers with `probability`, and
    where it does not the group itself is run, as it is: frozen and without dropout. With a probability of 1 the student
    alone is trained.

    The layers of a stack are grouped in order, as evenly as they can be. Stacks as deep as the teacher's, and frozen
    ones, are the student's own throughout. The draws depend on the seed and the step alone, so they are the same on
    every rank, and after a resumption. `kept`: the layers of the student whose group runs in the step at hand."""

    def __init__(self, at: Callable[[int], Mapping[str, Any]], seed: int) -> None:
        self._at, self._seed = at, seed
        self._depths: dict[str, int] = {}
        self.kept: dict[str, frozenset[int]] = {}

    def begin(self, student: nn.Module, teacher: nn.Module | None) -> None:
        assert teacher is not None
        for stack in stacks(student):
            own, predecessors = layers(student, stack), layers(teacher, stack)
            trained = any(parameter.requires_grad for layer in own for parameter in layer.parameters())
            if not trained or len(own) >= len(predecessors):
                continue
            self._depths[stack] = len(own)
            for index, (layer, group) in enumerate(zip(own, groups(len(own), len(predecessors)), strict=True)):
                # Not as children of the student: they are no part of what is trained, saved or cast with it.
                theirs = [predecessors[place] for place in group]
                layer.forward = partial(self._run, stack, index, layer, layer.forward, theirs)

    def before_step(self, step: int) -> None:
        random = np.random.default_rng([self._seed, step])
        probability = self._at(step)["probability"]
        for stack, depth in self._depths.items():
            self.kept[stack] = frozenset(np.flatnonzero(random.random(depth) >= probability).tolist())

    def _run(
        self,
        stack: str,
        index: int,
        layer: nn.Module,
        forward: Callable[..., Any],
        group: list[nn.Module],
        *arguments: Any,
        **named: Any,
    ) -> Any:
        if index not in self.kept.get(stack, ()):
            return forward(*arguments, **named)
        named = dict(named)
        states: Tensor = arguments[0] if arguments else named.pop("hidden_states")

        def predecessors(states: Tensor) -> Any:
            output: Any = states
            for one in group:
                output = one(states_of(output), *arguments[1:], **named)
            return output

        return passed_over(layer, states, lambda: forward(states, *arguments[1:], **named), predecessors)

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        pass

    @contextmanager
    def plain(self) -> Iterator[None]:
        before, self.kept = self.kept, {}
        try:
            yield
        finally:
            self.kept = before


def groups(num_own: int, num_predecessors: int) -> list[range]:
    """The layers of the teacher that each layer of a student stands for: in order, none left out, as even as can be."""
    ends = [index * num_predecessors // num_own for index in range(num_own + 1)]
    return [range(begin, end) for begin, end in pairwise(ends)]


def _make(at: Callable[[int], Mapping[str, Any]], seed: int) -> Method:
    return Theseus(at, seed)


THESEUS = MethodKind(make=_make, needs_teacher=True)
