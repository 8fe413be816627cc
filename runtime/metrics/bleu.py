"""BLEU and chrF by sacrebleu, with its signature. Source: domain facts 6.2.

Corpus scores, defaults (13a, exponential smoothing, cased), no post-processing of the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..protocol import Metric, ScoreInputs
from .bootstrap import RESAMPLES


def corpus_bleu(metric: str, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """{value, low, high, signature} of one metric; the interval is sacrebleu's own bootstrap (mean and half width)."""
    from sacrebleu.metrics import BLEU, CHRF

    kinds: dict[str, Callable[[], Any]] = {"bleu": BLEU, "chrf": CHRF}
    scorer = kinds[metric]()
    score = scorer.corpus_score(list(predictions), [list(references)])
    resampled = kinds[metric]().corpus_score(list(predictions), [list(references)], n_bootstrap=RESAMPLES)
    return {
        "value": float(score.score),
        "low": float(resampled._mean - resampled._ci),
        "high": float(resampled._mean + resampled._ci),
        "signature": str(scorer.get_signature()),
    }


# --- as they are registered ------------------------------------------------------------------------


def _score(names: Sequence[str], inputs: ScoreInputs) -> dict[str, dict[str, Any]]:
    return {name: corpus_bleu(name, inputs.predictions, inputs.references) for name in names}


BLEU = Metric(score=_score, needs="texts")
