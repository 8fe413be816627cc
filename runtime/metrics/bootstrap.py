"""Confidence intervals by resampling examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 12345  # of the resampling alone: the same predictions always get the same interval
_CHUNK_BYTES = 64 << 20


@dataclass(frozen=True)
class Interval:
    """The 95 % interval of a mean, and the median of the resampled means."""

    low: float
    high: float
    median: float


def bootstrap_mean(values: Sequence[float]) -> Interval:
    """Percentile bootstrap of the mean of per-example scores (1000 resamples, seeded).

    `median` is what rouge_score's BootstrapAggregator calls `mid` and the 2020 code printed as the score; there
    it came from numpy's global random state and so changed a little from run to run.
    """
    scores = np.asarray(values, dtype=np.float64)  # (N,)
    if len(scores) == 0:
        return Interval(0.0, 0.0, 0.0)
    random = np.random.default_rng(SEED)
    rows = max(1, _CHUNK_BYTES // (8 * len(scores)))
    means: list[float] = []
    while len(means) < RESAMPLES:
        draws = random.integers(0, len(scores), (min(rows, RESAMPLES - len(means)), len(scores)))
        means.extend(scores[draws].mean(axis=1).tolist())
    tail = 50 * (1 - CONFIDENCE)
    low, median, high = np.percentile(means, [tail, 50, 100 - tail])
    return Interval(float(low), float(high), float(median))
