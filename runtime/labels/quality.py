"""What a label is worth: how close it is to the original target of its row.

ROUGE-2 of labels against training targets is the proxy of arXiv 2010.13002, section 6.2: where it is higher the
students that are trained on the labels are better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from ..metrics.rouge import rouge_of_examples
from ..plan import PseudoLabelSettings


def proxy(task: str) -> str:
    """The metric by which the labels of a task are judged."""
    return "bleu" if task == "translation" else "rouge2"


def asked(settings: PseudoLabelSettings) -> tuple[str, ...]:
    """The metrics that labels get: the task's, and those that a rule asks for."""
    rules = {"rouge2": settings.min_rouge2, "bleu": settings.min_bleu}
    first = proxy(settings.task)
    return (first, *(metric for metric, least in rules.items() if least is not None and metric != first))


def quality(metrics: Sequence[str], text: str, reference: str) -> dict[str, float]:
    """Metric -> percent, of one text against one target."""
    return {metric: _METRICS[metric](text, reference) for metric in metrics}


def best(metric: str, texts: Sequence[str], reference: str) -> int:
    """The number of the text closest to the target; of equals the first one."""
    scores = [_METRICS[metric](text, reference) for text in texts]
    return scores.index(max(scores))


def _rouge2(text: str, reference: str) -> float:
    return rouge_of_examples(("rouge2",), (text,), (reference,))["rouge2"][0]


def _bleu(text: str, reference: str) -> float:
    """Sentence BLEU: sacrebleu's defaults with the order of n-grams that the sentence has."""
    return float(_sentence_bleu().sentence_score(text, [reference]).score)


@cache
def _sentence_bleu() -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(effective_order=True)


_METRICS: Mapping[str, Callable[[str, str], float]] = {"rouge2": _rouge2, "bleu": _bleu}
