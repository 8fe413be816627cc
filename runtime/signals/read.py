"""Signals while training: the states of a micro-batch, out of mapped files, beside its token ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..data.rows import Ids, Lengths, Rows
from ..execution.context import Context
from ..failure import Failure
from ..models.forward import first_stack_digest
from ..plan.plan import Stage
from .layout import LAST, OFFSETS, Facts, from_stored, open_array, read_facts

CANDIDATES = "candidates"  # what is kept beside the two sides, and the role of its stage


class Kept(Protocol):
    """What gives batches their signals."""

    def batch(self, ids: Ids | NDArray[np.int64], source_tokens: int, target_tokens: int) -> dict[str, Tensor]: ...


class Signals:
    """What is kept of a teacher for the rows of a training set: `folders` of its sides, and of its candidates.

    Raises `Failure` R331 (a file is missing or damaged), R332 (they are of other data)."""

    def __init__(self, folders: Mapping[str, Path], rows: Rows) -> None:
        self.facts: dict[str, Facts] = {side: read_facts(folder) for side, folder in folders.items()}
        self._rows = rows
        self._arrays: dict[tuple[str, str], NDArray[Any]] = {}
        self._starts: dict[str, Lengths] = {}
        for side, facts in self.facts.items():
            for state, name in facts.files.items():
                self._arrays[side, state] = open_array(folders[side] / name, "r")
            self._starts[side] = _starts(rows, side, open_array(folders[side] / OFFSETS, "r"))

    @property
    def states(self) -> frozenset[str]:
        """What a batch gets, by name."""
        return frozenset(signal(side, state) for side, state in self._arrays)

    def batch(self, ids: Ids | NDArray[np.int64], source_tokens: int, target_tokens: int) -> dict[str, Tensor]:
        """For these examples, padded with zeros: `SIDE.last` and `SIDE.layer-K`, each (B, source_tokens, d) or
        (B, target_tokens, d); `candidates.ids` and `candidates.log-probabilities`, (B, target_tokens, K). No ids gives
        one row of zeros, as `collate` does."""
        found: dict[str, Tensor] = {}
        for (side, state), array in self._arrays.items():
            length = source_tokens if reads_sources(side) else target_tokens
            lengths = lengths_of(self._rows, side)
            padded = np.zeros((max(1, len(ids)), length, array.shape[1]), array.dtype)  # (B, S or T, d)
            for b, i in enumerate(ids):
                start, number = int(self._starts[side][i]), int(lengths[i])
                padded[b, :number] = array[start : start + number]
            found[f"{side}.{state}"] = from_stored(padded)
        return found


def signal(side: str, state: str = LAST) -> str:
    """The name of a state in a batch."""
    return f"{side}.{state}"


def reads_sources(side: str) -> bool:
    """Does a side have a state for each token of the source? Else for each of the target."""
    return side == "encoder"


def lengths_of(rows: Rows, side: str) -> Lengths:
    """States of each row of a side, (N,)."""
    return rows.source_lengths if reads_sources(side) else rows.target_lengths


def signals_of(stage: Stage, context: Context, objective: Any, rows: Rows) -> Signals | None:
    """The signals that the plan gives a training, candidates included; None: there are none. `objective`: with its
    student.

    Raises `Failure` R332: the encoder's states came through another encoder than the student's."""
    folders = {side: context.inputs[f"signals.{side}"] for side in stage.execution.signals}
    if CANDIDATES in context.inputs:
        folders[CANDIDATES] = context.inputs[CANDIDATES]
    if not folders:
        return None
    signals = Signals(folders, rows)
    # Below the last stack the kept states serve both models.
    first, *above = objective.stacks
    serves_both = above and signal(first) in signals.states
    if serves_both and signals.facts[first].encoder != first_stack_digest(objective.student):
        raise Failure(
            "R332",
            "the encoder's signals came through another encoder than the student's",
            "compile the spec again; if it stays, switch the cache off (`scratch: {limit_gb: 0}`) and report it",
        )
    return signals


def with_signals(
    batch: dict[str, Tensor], signals: Kept | None, ids: Ids | NDArray[np.int64]
) -> dict[str, Tensor]:
    """A collated batch with the states of its examples."""
    if signals is not None:
        batch |= signals.batch(ids, batch["input_ids"].shape[1], batch["labels"].shape[1])
    return batch


def _starts(rows: Rows, side: str, offsets: Lengths) -> Lengths:
    """Where each row's states begin. The encoder's lie as the sources of the data do, which a mix of targets names
    several times, or not at all."""
    lengths = lengths_of(rows, side)
    stored = rows.source_rows() if reads_sources(side) else None
    if stored is None:
        if len(offsets) - 1 != len(lengths):
            raise _other(side)
        stored = np.arange(len(lengths))
    if len(stored) != len(lengths) or (len(stored) and int(stored.max()) >= len(offsets) - 1):
        raise _other(side)
    if (np.diff(offsets)[stored] != lengths).any():
        raise _other(side)
    starts: Lengths = offsets[stored]
    return starts


def _other(side: str) -> Failure:
    return Failure("R332", f"the signals of the {side} are of other data", "make them again: --redo the signals stage")
