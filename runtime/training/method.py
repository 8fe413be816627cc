"""How a student is trained, beside what it is trained on: something that acts on it before each step."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import nn


class Method(Protocol):
    """For example: modules of the student are replaced by the teacher's with a probability, or layers are skipped.

    What it does must not change the names, shapes or number of the student's parameters once the engine has started,
    and must be the same on every rank: its draws depend on the step, not on the rank.
    """

    def begin(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Before the engine starts. `teacher` is there where a term looks at it."""

    def before_step(self, step: int, num_steps: int) -> None:
        """Act on the student. `step` counts from 1; `num_steps`: the most that there can be."""

    def state(self) -> dict[str, Any]:
        """JSON: what it needs to go on after an interruption as if there had been none. Part of every checkpoint."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""

    def plain(self) -> AbstractContextManager[None]:
        """Within it the student is an ordinary model: it is validated and saved so."""
