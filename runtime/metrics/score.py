"""Metric names -> the functions that compute them. A new metric of generated texts is one new row here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .bleu import BLEU_METRICS, corpus_bleu
from .rouge import ROUGE_METRICS, rouge


def score(
    metrics: Sequence[str], predictions: Sequence[str], references: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Metric -> {value, low, high, ...} in percent, for texts in the order of their references.

    Raises ValueError: an unknown metric, or no texts at all (the plan's schema and the data stage exclude both).
    """
    unknown = [metric for metric in metrics if metric not in (*ROUGE_METRICS, *BLEU_METRICS)]
    if unknown or not predictions:
        raise ValueError(f"cannot score {unknown or 'nothing'}")
    result: dict[str, dict[str, Any]] = {}
    rouges = [metric for metric in metrics if metric in ROUGE_METRICS]
    if rouges:
        result.update(rouge(rouges, predictions, references))
    for metric in metrics:
        if metric in BLEU_METRICS:
            result[metric] = corpus_bleu(metric, predictions, references)
    return {metric: result[metric] for metric in metrics}
