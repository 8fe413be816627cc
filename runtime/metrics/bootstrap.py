"""Confidence intervals by resampling examples: percentiles of 1000 resamples, seeded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 12345  # of the resampling alone: the same predictions always get the same interval
_CHUNK_BYTES = 64 << 20

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Interval:
    """The 95 % interval of a statistic, and the median of the resampled values."""

    low: float
    high: float
    median: float


def bootstrap_mean(values: Sequence[float]) -> Interval:
    """Percentile bootstrap of the mean of per-example scores.

    `median` is what rouge_score's BootstrapAggregator calls `mid` and the 2020 code printed as the score; there
    it came from numpy's global random state and so changed a little from run to run.
    """
    scores = np.asarray(values, dtype=np.float64)  # (N,)
    if len(scores) == 0:
        return Interval(0.0, 0.0, 0.0)
    random = np.random.default_rng(SEED)
    means: list[float] = []
    for rows in _chunks(len(scores)):
        draws = random.integers(0, len(scores), (rows, len(scores)))
        means.extend(scores[draws].mean(axis=1).tolist())
    return _interval(means)


def bootstrap(statistic: Callable[[Array], Array], counts: Array) -> Interval:
    """Percentile bootstrap of a statistic of how often each outcome occurs.

    counts (K,): of the outcomes, as many examples altogether as there are. statistic: (R, K) int64, the counts in R
    resamples of as many examples -> its value in each (R,). Drawing examples and counting them is one draw from a
    multinomial distribution.
    """
    random = np.random.default_rng(SEED)
    examples = int(counts.sum())
    values: list[float] = []
    for rows in _chunks(len(counts)):
        values.extend(statistic(random.multinomial(examples, counts / examples, size=rows)).tolist())
    return _interval(values)


def _chunks(width: int) -> list[int]:
    """Numbers of resamples, RESAMPLES altogether, of which each fits into memory."""
    most = max(1, _CHUNK_BYTES // (8 * width))
    return [min(most, RESAMPLES - start) for start in range(0, RESAMPLES, most)]


def _interval(resampled: Sequence[float]) -> Interval:
    tail = 50 * (1 - CONFIDENCE)
    low, median, high = np.percentile(resampled, [tail, 50, 100 - tail])
    return Interval(float(low), float(high), float(median))
