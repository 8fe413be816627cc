"""Generation engines behind one interface: sources in, hypotheses with scores out, batch by batch.

`open_engine` opens the engine that the plan names. What must not differ between engines is here or in
`search.py`: how settings are understood, how batches are made, what a score is.

**Score** of a hypothesis: the sum of the natural logarithms of its tokens' probabilities, divided by
length ** length_penalty. The length counts every token after the decoder's start token: one that is forced
(a language code, the end at the length limit), and the end token. A forced token adds 0 to the sum. The
probabilities are the model's own, before settings forbid tokens and before a temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.batches import sorted_batches
from ..data.rows import Rows
from ..failure import Failure
from ..models.load import Precision, read_config
from ..plan import GenerationSettings

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


def open_engine(
    settings: GenerationSettings,
    folder: Path,
    converted: Path | None = None,
    *,
    precision: Precision,
    device: str,
    labels: Source | None = None,
    num_threads: int | None = None,
    one_at_a_time: bool = False,
    with_scores: bool = True,
) -> Engine:
    """The engine that the plan names, ready to work.

    `folder`: the model's (of transformers, with its tokenizer). `converted`: the artifact of the `convert`
    stage (needed by ctranslate2). `labels`: those of any example, from which a multilingual model learns in
    which language to answer. `num_threads`: of ctranslate2 on the CPU; None: those that torch has.
    `one_at_a_time`: all threads work on one batch (for measuring latency), where several would be faster.
    `with_scores` False: scores may be NaN, which spares transformers a pass of the decoder.

    Raises `Failure` R221-R226 (loading), R320 (texts longer than the model has positions), R321 (ctranslate2,
    asked for by name, cannot do it), R322 (the conversion is not there or damaged).
    """
    from .transformers_engine import TransformersEngine

    _require_positions(settings, folder)

    def reference(note: str = "") -> TransformersEngine:
        return TransformersEngine.open(
            settings, folder, precision=precision, device=device, labels=labels, note=note, with_scores=with_scores
        )

    if settings.engine == "transformers":
        return reference()
    from .ctranslate2_engine import CTranslate2Engine, Unfit

    if converted is None:
        raise Failure("R322", "ctranslate2 has no converted model to work with", "compile the spec again")
    try:
        return CTranslate2Engine(
            converted, folder, settings, device, labels, reference,
            num_threads=num_threads or torch.get_num_threads(), one_at_a_time=one_at_a_time,
        )  # fmt: skip
    except Unfit as reason:
        if settings.named:
            raise Failure(
                "R321", f"ctranslate2 was asked for and {reason}", "take `engine: auto` or `engine: transformers`"
            ) from reason
        return reference(f"ctranslate2 {reason}")


def _require_positions(settings: GenerationSettings, folder: Path) -> None:
    """A text that comes to the end of the model's table of positions would end the work in the middle."""
    positions = getattr(read_config(folder), "max_position_embeddings", None)  # None: it has no table (T5)
    if positions is not None and (settings.max_length or 0) > positions:
        raise Failure(
            "R320", f"a text of {settings.max_length} tokens is asked for, and the model has {positions} positions",
            f"take {positions} or less (`max_length` of a generation, `--max-length` of `predict`)",
        )  # fmt: skip


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
