"""ROUGE as the field counts it: rouge_score, Porter stemming, F1, percent.

Source: domain facts 6.1. References are whole, never cut to the model's length; of several for a row the one that a
text is closest to counts, for each metric by itself, as rouge_score has it. rougeL takes a text as one sequence;
rougeLsum is the union over sentences, which both sides get by the same splitter. rouge_score's own tokenizer knows the
letters a to z alone; where the spec or the language of the targets asks for it, words of every script count
(`words.py`), and a score says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from ..plan.settings import Scoring
from ..protocol import Metric, References, ScoreInputs, several
from .bootstrap import bootstrap_mean
from .sentences import ANY_SCRIPT, SPLITTER, split_sentences
from .words import UnicodeWords


def rouge(
    metrics: Sequence[str], predictions: Sequence[str], references: References, scoring: Scoring | None = None
) -> dict[str, dict[str, Any]]:
    """Metric -> {value, low, high, bootstrap_median, splitter?, tokenizer?, stemmer?, references?}, all in percent.

    `value` is the plain mean of the examples' F1; `bootstrap_median` the number that the 2020 code reported. The
    tokenizer and the stemmer are named where they are not the usual ones, `references` (the most that a row has)
    where there are several.
    """
    scoring = scoring or Scoring()
    scores = rouge_of_examples(metrics, predictions, references, scoring)
    any_script = scoring.rouge_tokenizer == "unicode"
    most = max((len(several(row)) for row in references), default=1)
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
            result[metric]["splitter"] = ANY_SCRIPT if any_script else SPLITTER
        if any_script:
            result[metric]["tokenizer"] = scoring.rouge_tokenizer
        if any_script or not scoring.stemmer:
            result[metric]["stemmer"] = scoring.stemmer
        if most > 1:
            result[metric]["references"] = most
    return result


def rouge_of_examples(
    metrics: Sequence[str], predictions: Sequence[str], references: References, scoring: Scoring | None = None
) -> dict[str, list[float]]:
    """Metric -> F1 of each example, in percent."""
    scoring = scoring or Scoring()
    scorer = _scorer(tuple(metrics), scoring.rouge_tokenizer, scoring.stemmer)
    scores: dict[str, list[float]] = {metric: [] for metric in metrics}

    def prepared(text: str) -> str:
        if "rougeLsum" not in metrics:
            return text
        return "\n".join(split_sentences(text, any_script=scoring.rouge_tokenizer == "unicode"))

    for prediction, row in zip(predictions, references, strict=True):
        texts = [prepared(reference) for reference in several(row)]
        for metric, score in scorer.score_multi(texts, prepared(prediction)).items():
            scores[metric].append(100.0 * score.fmeasure)
    return scores


@cache
def _scorer(metrics: tuple[str, ...], tokenizer: str, stemmer: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    if tokenizer == "unicode":
        return RougeScorer(list(metrics), tokenizer=UnicodeWords(stemmer=stemmer))
    return RougeScorer(list(metrics), use_stemmer=stemmer)


# --- as they are registered ------------------------------------------------------------------------


def _score(names: Sequence[str], inputs: ScoreInputs) -> dict[str, dict[str, Any]]:
    return rouge(names, inputs.predictions, inputs.all_references or inputs.references, inputs.scoring)


ROUGE = Metric(score=_score, needs="texts")
