"""Token ids -> texts, beside the search: while the next batch is searched, this one is written out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from .engine import Hypothesis, OnBatch

# Of one batch: for each source its hypotheses, as (token ids, score).
Found = Sequence[Sequence[tuple[Sequence[int], float]]]


class Writer:
    """Decodes batches in one thread and hands them over, in order, in the caller's thread."""

    def __init__(self, tokenizer: Any, on_batch: OnBatch) -> None:
        self._tokenizer = tokenizer
        self._on_batch = on_batch
        self._threads = ThreadPoolExecutor(1, "decoding")
        self._waiting: list[tuple[Sequence[int], Future[list[list[Hypothesis]]]]] = []

    def add(self, positions: Sequence[int], found: Found) -> None:
        """Take a finished batch; hand over those that are decoded."""
        self._waiting.append((positions, self._threads.submit(self._decode, found)))
        self._hand_over(wait=False)

    def _decode(self, found: Found) -> list[list[Hypothesis]]:
        flat = [ids for hypotheses in found for ids, _ in hypotheses]
        texts = iter(self._tokenizer.batch_decode(flat, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        return [[Hypothesis(next(texts).strip(), score, len(ids)) for ids, score in hypotheses] for hypotheses in found]

    def _hand_over(self, *, wait: bool) -> None:
        while self._waiting and (wait or self._waiting[0][1].done()):
            positions, decoded = self._waiting.pop(0)
            self._on_batch(positions, decoded.result())

    def finish(self) -> None:
        """Hand over what is left."""
        self._hand_over(wait=True)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)


@contextmanager
def writing(tokenizer: Any, on_batch: OnBatch) -> Iterator[Writer]:
    """A writer that has handed over everything at the end, unless something went wrong."""
    writer = Writer(tokenizer, on_batch)
    try:
        yield writer
        writer.finish()
    finally:
        writer.close()
