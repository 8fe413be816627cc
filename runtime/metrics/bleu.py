"""BLEU and chrF by sacrebleu, with its signature. Source: domain facts 6.2.

Corpus scores, exponential smoothing, cased, no post-processing of the texts. Words are found with 13a, unless the spec
or the language of the targets asks for another tokenizer; the signature names it, and the number of references.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from ..failure import Failure
from ..plan.settings import Scoring
from ..protocol import Metric, References, ScoreInputs, several
from .bootstrap import RESAMPLES


def corpus_bleu(
    metric: str, predictions: Sequence[str], references: References, scoring: Scoring | None = None
) -> dict[str, Any]:
    """{value, low, high, signature} of one metric; the interval is sacrebleu's own bootstrap (mean and half width),
    as far as it lies within the scale: of few rows it reaches beyond.

    Raises `Failure` R356: the tokenizer is not available."""
    scorer = _scorer(metric, scoring or Scoring())
    streams = _streams(references)
    score = scorer.corpus_score(list(predictions), streams)
    signature = str(scorer.get_signature())  # without the resampling
    resampled = scorer.corpus_score(list(predictions), streams, n_bootstrap=RESAMPLES)
    return {
        "value": float(score.score),
        "low": max(0.0, float(resampled._mean - resampled._ci)),
        "high": min(100.0, float(resampled._mean + resampled._ci)),
        "signature": signature,
    }


def sentence_bleu(prediction: str, reference: str, scoring: Scoring) -> float:
    """With the order of n-grams that the sentence has, in percent. Raises as `corpus_bleu`."""
    return float(_sentence_scorer(scoring.bleu_tokenize).sentence_score(prediction, [reference]).score)


def _streams(references: References) -> list[list[str | None]]:
    """The first references of all rows, the second ones, and so on; None: a row has fewer."""
    rows = [several(row) for row in references]
    return [[row[i] if i < len(row) else None for row in rows] for i in range(max(map(len, rows)))]


def _scorer(metric: str, scoring: Scoring) -> Any:
    from sacrebleu.metrics import CHRF

    return _bleu(scoring.bleu_tokenize) if metric == "bleu" else CHRF()


@cache
def _sentence_scorer(tokenize: str) -> Any:
    return _bleu(tokenize, effective_order=True)


def _bleu(tokenize: str, **options: Any) -> Any:
    from sacrebleu.metrics import BLEU

    try:
        return BLEU(tokenize=tokenize, **options)
    except (Exception, SystemExit) as error:  # a library is missing, or a model cannot be downloaded
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise Failure(
            "R356",
            f"BLEU's tokenizer {tokenize} is not available: {reason}",
            _INSTALL.get(tokenize, f"see that it is in {os.path.join('~', '.sacrebleu', 'models')}")
            + ", or take another: `evaluation: {bleu: {tokenize: char}}`",
            spec_path="evaluation.bleu.tokenize",
        ) from error


_INSTALL: Mapping[str, str] = {"ja-mecab": "pip install sacrebleu[ja]", "ko-mecab": "pip install sacrebleu[ko]"}


# --- as they are registered ------------------------------------------------------------------------


def _score(names: Sequence[str], inputs: ScoreInputs) -> dict[str, dict[str, Any]]:
    references = inputs.all_references or inputs.references
    return {name: corpus_bleu(name, inputs.predictions, references, inputs.scoring) for name in names}


BLEU = Metric(score=_score, needs="texts")
