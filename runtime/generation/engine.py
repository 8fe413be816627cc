"""Generation engines behind one interface: sources in, hypotheses with scores out, batch by batch.

`choose.open_engine` opens the engine that the plan names. What must not differ between engines is here or in
`search.py`: how settings are understood, how batches are made, what a score is.

**Score** of a hypothesis: the sum of the natural logarithms of its tokens' probabilities, divided by
length ** length_penalty. The length counts every token after the decoder's start token: one that is forced
(a language code, the end at the length limit), and the end token. A forced token adds 0 to the sum. The
probabilities are the model's own, before settings forbid tokens and before a temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.batches import sorted_batches
from ..data.rows import Rows

BATCH_TOKENS = 8192  # source tokens x hypotheses that are worked on at once
MAX_ROWS = 256

Source = NDArray[np.int32]


@dataclass(frozen=True)
class Hypothesis:
    """A text without special tokens, its score (natural logarithm; above), and the number of its tokens, those
    that the score's length counts."""

    text: str
    score: float
    num_tokens: int = 0


OnBatch = Callable[[Sequence[int], Sequence[Sequence[Hypothesis]]], None]


class Engine(Protocol):
    """`name` is the engine that really works; `note` says, for people, why it is not the one that the plan
    names (empty: it is). `width`: hypotheses of one source that are worked on at once. `limit`: the most tokens of a
    hypothesis, as `num_tokens` counts them."""

    name: str
    note: str

    @property
    def width(self) -> int: ...

    @property
    def limit(self) -> int: ...

    def generate(
        self,
        sources: Sequence[Source],
        on_batch: OnBatch,
        *,
        ids: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Write texts for these sources (token ids, the end token included, no padding).

        `on_batch(positions, hypotheses)` is called in this thread as each batch is done: `hypotheses[k]` are
        those of `sources[positions[k]]`, the best first, `n_best` of them. Every position comes once; the order
        is by length, not the sources'. `ids`: a number for each source that does not change with how the work
        is shared out (its row); draws of a sampling depend on it. None: the positions. `batch_size` fixes the
        rows of a batch (for measuring speed); otherwise the token budget decides.
        """


def batches(
    lengths: NDArray[np.int64], num_hypotheses: int, batch_size: int | None = None
) -> list[NDArray[np.int64]]:
    """Positions of the sources (N lengths in tokens), in batches of similar length, the longest first, within the
    token budget."""
    budget = None if batch_size is not None else max(1, BATCH_TOKENS // max(1, num_hypotheses))
    return sorted_batches(lengths, budget, batch_size or MAX_ROWS)


def written_by(engine: Engine) -> str:
    """The end of an account of what an engine wrote: why it was not the one that the plan names; else empty."""
    return f"; by {engine.name}: {engine.note}" if engine.note else ""


def lengths_of(sources: Sequence[Source]) -> NDArray[np.int64]:
    """In tokens."""
    return np.fromiter(map(len, sources), np.int64, len(sources))


def generate_texts(
    engine: Engine,
    rows: Rows,
    ids: Sequence[int] | NDArray[Any],
    on_progress: Callable[[int], None] | None = None,
    at_limit: dict[int, int] | None = None,
) -> list[str]:
    """The best text for the source of each of these rows, in their order. `on_progress(done)` is called with
    the number of finished examples. `at_limit` gets the positions of those that end at the length limit,
    with this limit as `max_length` counts it: with the decoder's start token."""
    texts = [""] * len(ids)
    done = 0

    def on_batch(positions: Sequence[int], found: Sequence[Sequence[Hypothesis]]) -> None:
        nonlocal done
        for position, hypotheses in zip(positions, found, strict=True):
            texts[position] = hypotheses[0].text
            if at_limit is not None and hypotheses[0].num_tokens >= engine.limit:
                at_limit[int(position)] = engine.limit + 1
        done += len(positions)
        if on_progress is not None:
            on_progress(done)

    numbers = [int(i) for i in ids]
    engine.generate([rows.source(i) for i in numbers], on_batch, ids=numbers)
    return texts
