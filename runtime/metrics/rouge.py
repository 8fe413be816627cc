"""ROUGE as the field counts it: rouge_score, Porter stemming, F1, percent.

Source: domain facts 6.1. References are whole, never cut to the model's length. rougeL takes a text as one
sequence; rougeLsum is the union over sentences, which both sides get by the same splitter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..protocol import Metric, ScoreInputs
from .bootstrap import bootstrap_mean
from .sentences import SPLITTER, split_sentences


def rouge(
    metrics: Sequence[str], predictions: Sequence[str], references: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Metric -> {value, low, high, bootstrap_median, splitter?}, all in percent.

    `value` is the plain mean of the examples' F1; `bootstrap_median` the number that the 2020 code reported.
    """
    scores = rouge_of_examples(metrics, predictions, references)
    result: dict[str, dict[str, Any]] = {}
    for metric, values in scores.items():
        interval = bootstrap_mean(values)
        result[metric] = {
            "value": sum(values) / len(values),
            "low": interval.low,
            "high": interval.high,
            "bootstrap_median": interval.median,
        }
        if metric == "rougeLsum":
            result[metric]["splitter"] = SPLITTER
    return result


def rouge_of_examples(
    metrics: Sequence[str], predictions: Sequence[str], references: Sequence[str]
) -> dict[str, list[float]]:
    """Metric -> F1 of each example, in percent."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(metrics), use_stemmer=True)
    scores: dict[str, list[float]] = {metric: [] for metric in metrics}
    for prediction, reference in zip(predictions, references, strict=True):
        if "rougeLsum" in metrics:
            prediction, reference = ("\n".join(split_sentences(text)) for text in (prediction, reference))
        for metric, score in scorer.score(reference, prediction).items():
            scores[metric].append(100.0 * score.fmeasure)
    return scores


# --- as they are registered ------------------------------------------------------------------------


def _score(names: Sequence[str], inputs: ScoreInputs) -> dict[str, dict[str, Any]]:
    return rouge(names, inputs.predictions, inputs.references)


ROUGE = Metric(score=_score, needs="texts")
