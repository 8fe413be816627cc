"""Which tokens of a text are to be predicted, and what the model reads in their places (domain facts 7.3).

Every number is drawn by a counter: those of a row depend on a seed, on the epoch and on the row alone. So a draw is the
same on every rank, in micro-batches of any size, and in a training that was interrupted.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..failure import Failure
from ..plan.settings import MaskingSettings
from .rows import Ids, Rows

COUNTS_FILE = "token_counts.npy"  # of a data artifact: how often each token is in the training set, (V,) int64
NOT_PREDICTED = -100
# Of validations and evaluations, whatever a training does: so all models are asked about the same tokens.
FIXED = MaskingSettings(share=15.0, masked=80.0, random=10.0, rare=0.0)
FIXED_SEED = 1910_01108

Draws = Callable[[int], NDArray[np.float64]]  # a row -> (3, S), each in [0, 1)


@dataclass(frozen=True)
class Choice:
    """`weights` (V,): how readily a token is chosen, 0 for those that never are; `mask_id`: of the mask token."""

    weights: NDArray[np.float64]
    mask_id: int

    @property
    def vocabulary(self) -> int:
        return len(self.weights)


class MaskedRows(Rows):
    """Rows (of lengths that stay) in which some tokens are to be predicted. `masked(i)`: what is read of row i, (S,),
    and its labels (S,), `NOT_PREDICTED` where nothing is predicted; these are its target here."""

    def __init__(self, rows: Rows, masked: Callable[[int], tuple[Ids, Ids]]) -> None:
        self.folder, self.split = rows.folder, rows.split
        self.source_lengths, self.target_lengths = rows.source_lengths, rows.target_lengths
        self._rows, self._masked = rows, masked

    def source(self, i: int) -> Ids:
        return self._masked(i)[0]

    def target(self, i: int) -> Ids:
        return self._masked(i)[1]

    def raw(self, i: int) -> dict[str, Any]:
        return self._rows.raw(i)

    def source_rows(self) -> NDArray[np.int64] | None:
        return self._rows.source_rows()


def masked_anew(
    rows: Rows, ids: Sequence[int] | NDArray[np.int64], choice: Choice, masking: MaskingSettings, seed: int, epoch: int
) -> MaskedRows:
    """The rows of one optimizer step as an epoch sees them: `share` percent of all their tokens, special ones among the
    counted, are chosen out of the whole step, without replacement, by the weights of the tokens."""
    numbers = [int(i) for i in ids]
    found = _masked([rows.source(i) for i in numbers], numbers, choice, masking, lambda row: _drawn(
        seed, (epoch << 40) + row, int(rows.source_lengths[row])
    ))  # fmt: skip
    return MaskedRows(rows, dict(zip(numbers, found, strict=True)).__getitem__)


def masked_alike(rows: Rows, choice: Choice) -> MaskedRows:
    """The rows as every validation and every evaluation sees them: of each row `FIXED.share` percent of its tokens, by
    its split and its number alone."""
    split = zlib.crc32(rows.split.encode()) << 32

    @lru_cache(maxsize=1)  # what is read and the labels are asked for one after the other
    def masked(i: int) -> tuple[Ids, Ids]:
        length = int(rows.source_lengths[i])
        return _masked([rows.source(i)], [i], choice, FIXED, lambda row: _drawn(FIXED_SEED, split + row, length))[0]

    return MaskedRows(rows, masked)


def choice_of(tokenizer: Any, counts: NDArray[np.int64] | None = None, rare: float = 0.0) -> Choice:
    """What can be chosen: every token of the tokenizer but special ones. `counts` (V,): of tokens in the training set,
    by the power `rare` of which a frequent token is chosen less often."""
    size = len(tokenizer)
    if counts is not None and len(counts) != size:
        raise _damaged(f"it counts {len(counts):,} tokens, and the tokenizer has {size:,}")
    weights = np.ones(size) if counts is None else np.maximum(counts, 1).astype(np.float64) ** -rare
    weights[tokenizer.all_special_ids] = 0.0
    return Choice(weights, int(tokenizer.mask_token_id))


def write_counts(folder: Path, source_ids: NDArray[np.int32], tokenizer: Any) -> None:
    """Put how often each token is in the training set beside its rows."""
    np.save(folder / COUNTS_FILE, np.bincount(source_ids, minlength=len(tokenizer)).astype(np.int64))


def read_counts(folder: Path) -> NDArray[np.int64]:
    """(V,). Raises `Failure` R231: they are not there or damaged."""
    try:
        counts: NDArray[np.int64] = np.load(folder / COUNTS_FILE)
    except (OSError, ValueError) as error:
        raise _damaged(str(error)) from error
    return counts


def _damaged(why: str) -> Failure:
    return Failure("R231", f"cannot read {COUNTS_FILE} of the data: {why}", "make them again: --redo data")


def _drawn(seed: int, number: int, length: int) -> NDArray[np.float64]:
    key = np.array([seed, number], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random((3, length))


def _masked(
    sources: Sequence[Ids], numbers: Sequence[int], choice: Choice, masking: MaskingSettings, draws: Draws
) -> list[tuple[Ids, Ids]]:
    """(what is read, labels) of each source."""
    tokens = np.concatenate([*sources, np.zeros(0, np.int32)])  # (N,) of all of them
    ends = np.cumsum([len(source) for source in sources])[:-1]
    first, kind, other = np.concatenate([np.zeros((3, 0)), *map(draws, numbers)], axis=1)  # (N,) each
    weights = choice.weights[tokens]
    number = min(math.ceil(masking.share * len(tokens) / 100), int((weights > 0).sum()))
    chosen = np.zeros(len(tokens), bool)
    if number:
        # The largest of these are a sample without replacement (Efraimidis & Spirakis 2006).
        keys = np.full(len(tokens), -np.inf)
        np.divide(np.log1p(-first), weights, out=keys, where=weights > 0)
        chosen[np.argpartition(-keys, number - 1)[:number]] = True
    read = tokens.copy()
    read[chosen & (100 * kind < masking.masked)] = choice.mask_id
    replaced = chosen & (100 * kind >= masking.masked) & (100 * kind < masking.masked + masking.random)
    read[replaced] = (other[replaced] * choice.vocabulary).astype(read.dtype)
    labels = np.where(chosen, tokens, np.int32(NOT_PREDICTED)).astype(np.int32)
    return list(zip(np.split(read, ends), np.split(labels, ends), strict=True))
