"""Accuracy, macro F1 and Matthews' correlation of predicted classes, in percent, from the confusion matrix.

They are scikit-learn's `accuracy_score`, `f1_score(average="macro")` and `matthews_corrcoef`, times 100 as GLUE prints
them, with its values where a class is missing: F1 is averaged over the classes that are predicted or true; Matthews'
correlation is 0 where all predictions, or all references, are one class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..protocol import Metric, ScoreInputs
from .bootstrap import Array, bootstrap
from .score import score


def confusion(predictions: Sequence[str], references: Sequence[str]) -> tuple[list[str], Array]:
    """The classes that occur, sorted, and how often each is predicted for each: (C, C) int64, a row a true class.
    Raises ValueError: not as many of one as of the other."""
    classes = sorted({*predictions, *references})
    index = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)  # (C, C)
    for prediction, reference in zip(predictions, references, strict=True):
        counts[index[reference], index[prediction]] += 1
    return classes, counts


def majority(training: Iterable[str], references: Sequence[str], metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The baseline that every classifier must beat: the most frequent class of the training set (the first by name of
    several), predicted for all. Metric -> {value, ...}, with `class`, its name."""
    counts = Counter(training)
    most = min(counts, key=lambda name: (-counts[name], name))
    scores = score(metrics, [most] * len(references), references)
    return {metric: {**entry, "class": most} for metric, entry in scores.items()}


# --- of confusion matrices (..., C, C), a row a true class: (...) --------------------------------------


def accuracy(counts: Array) -> Array:
    share: Array = _hits(counts).sum(-1) / counts.sum((-2, -1))
    return share


def macro_f1(counts: Array) -> Array:
    marginals = counts.sum(-1) + counts.sum(-2)  # (..., C): 2 TP + FP + FN
    occurs = marginals > 0
    f1 = 2 * _hits(counts) / np.where(occurs, marginals, 1)
    mean: Array = f1.sum(-1) / occurs.sum(-1)
    return mean


def matthews(counts: Array) -> Array:
    """Of several classes as well. Source: J. Gorodkin, Comput. Biol. Chem. 28 (2004), 367-374."""
    true, predicted = counts.sum(-1), counts.sum(-2)  # (..., C)
    total = true.sum(-1)
    covariance = _hits(counts).sum(-1) * total - (true * predicted).sum(-1)
    true_variance = total**2 - (true**2).sum(-1)
    predicted_variance = total**2 - (predicted**2).sum(-1)
    scale = np.sqrt(true_variance) * np.sqrt(predicted_variance)
    found: Array = np.divide(covariance, scale, out=np.zeros(scale.shape), where=scale > 0)
    return found


def _hits(counts: Array) -> Array:
    return np.diagonal(counts, axis1=-2, axis2=-1)


# --- as they are registered ------------------------------------------------------------------------

FORMULAS: Mapping[str, Callable[[Array], Array]] = {"accuracy": accuracy, "macro_f1": macro_f1, "matthews": matthews}


def _score(names: Sequence[str], inputs: ScoreInputs) -> dict[str, dict[str, Any]]:
    classes, counts = confusion(inputs.predictions, inputs.references)
    square = (-1, len(classes), len(classes))
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        formula = FORMULAS[name]
        interval = bootstrap(lambda resampled: formula(resampled.reshape(square)), counts.reshape(-1))  # noqa: B023 (called at once)
        found[name] = {
            "value": 100 * float(formula(counts)),
            "low": 100 * interval.low,
            "high": 100 * interval.high,
        }
    return found


CLASSES = Metric(score=_score, needs="labels")
