"""Pearson's and Spearman's correlation of predicted numbers, times 100 as GLUE prints them.

They are scipy's `pearsonr` and `spearmanr`; where all predictions, or all references, are one number, the correlation
is 0, not NaN: such predictions order nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..failure import Failure
from ..protocol import Metric, ScoreInputs
from .bootstrap import Array, bootstrap


def pearson(x: Array, y: Array, counts: Array) -> Array:
    """x, y: the numbers of the rows, (N,) or (R, N); counts (R, N): how often each row occurs. (R,), from -1 to 1."""
    examples = counts.sum(-1, keepdims=True)
    x_off, y_off = (z - (counts * z).sum(-1, keepdims=True) / examples for z in (x, y))  # (R, N)
    covariance = (counts * x_off * y_off).sum(-1)
    scale = np.sqrt((counts * x_off**2).sum(-1)) * np.sqrt((counts * y_off**2).sum(-1))
    defined = _varies(x, counts) & _varies(y, counts) & (scale > 0)
    found: Array = np.divide(covariance, scale, out=np.zeros(len(counts)), where=defined)
    return found.clip(-1.0, 1.0)


def spearman(x: Array, y: Array, counts: Array) -> Array:
    """x, y (N,). As `pearson`, of the ranks among the rows that occur."""
    return pearson(_ranks(x, counts), _ranks(y, counts), counts)


def _ranks(x: Array, counts: Array) -> Array:
    """The rank of each row when each occurs as often as `counts` says, from 1 on: (R, N). Equal numbers share the mean
    of their ranks."""
    values, group = np.unique(x, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(values)))
    in_group = np.add.reduceat(counts[:, order], starts, axis=1)  # (R, number of values)
    ranks: Array = np.cumsum(in_group, axis=1) - (in_group - 1) / 2
    return ranks[:, group]


def _varies(x: Array, counts: Array) -> Array:
    """Are there two numbers among those that occur? (R,). Asked exactly: variances have rounding errors."""
    there = counts > 0
    varies: Array = np.where(there, x, np.inf).min(-1) < np.where(there, x, -np.inf).max(-1)
    return varies


# --- as they are registered ------------------------------------------------------------------------

FORMULAS: Mapping[str, Callable[[Array, Array, Array], Array]] = {"pearson": pearson, "spearman": spearman}


def _score(names: Sequence[str], inputs: ScoreInputs) -> dict[str, dict[str, Any]]:
    """Raises `Failure` R375: not a number."""
    x = _numbers(inputs.predictions, "prediction", names)
    y = _numbers(inputs.references, "reference", names)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} predictions of {len(y)} references")
    once = np.ones(len(x), dtype=np.int64)
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        formula = FORMULAS[name]
        interval = bootstrap(lambda counts: formula(x, y, counts), once)  # noqa: B023 (called at once)
        found[name] = {
            "value": 100 * float(formula(x, y, once[None])[0]),
            "low": 100 * interval.low,
            "high": 100 * interval.high,
        }
    return found


def _numbers(texts: Sequence[str], whose: str, metrics: Sequence[str]) -> Array:
    found = np.empty(len(texts), dtype=np.float64)
    for i, text in enumerate(texts):
        try:
            found[i] = float(text)
        except ValueError:
            found[i] = math.nan
        if not math.isfinite(found[i]):
            is_text = text.strip().lower().lstrip("+-") not in ("nan", "inf", "infinity")
            raise Failure(
                "R375",
                f"{' and '.join(metrics)} compare numbers, and the {whose} of row {i + 1} is {text!r}",
                "of classes take accuracy, macro_f1 or matthews" if is_text
                else "the model or the data has a number that is not finite: look at that row",
            )  # fmt: skip
    return found


CORRELATION = Metric(score=_score, needs="labels")
