"""What a label is worth: how close it is to the original target of its row.

ROUGE-2 of labels against training targets is the proxy of arXiv 2010.13002, section 6.2: where it is higher the
students that are trained on the labels are better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..extensions import TASKS
from ..metrics.bleu import sentence_bleu
from ..metrics.rouge import rouge_of_examples
from ..metrics.score import with_line_breaks
from ..plan import PseudoLabelSettings, Scoring


def proxy(task: str) -> str:
    """The metric by which the labels of a task are judged."""
    return TASKS[task].label_metric


def asked(settings: PseudoLabelSettings) -> tuple[str, ...]:
    """The metrics that labels get: the task's, and those that a rule asks for."""
    rules = {"rouge2": settings.min_rouge2, "bleu": settings.min_bleu}
    first = proxy(settings.task)
    return (first, *(metric for metric, least in rules.items() if least is not None and metric != first))


def quality(metrics: Sequence[str], text: str, reference: str, scoring: Scoring) -> dict[str, float]:
    """Metric -> percent, of one text against one target."""
    pair = (with_line_breaks(text, scoring.line_break), with_line_breaks(reference, scoring.line_break))
    return {metric: _METRICS[metric](*pair, scoring) for metric in metrics}


def best(metric: str, texts: Sequence[str], reference: str, scoring: Scoring) -> int:
    """The number of the text closest to the target; of equals the first one."""
    scores = [quality((metric,), text, reference, scoring)[metric] for text in texts]
    return scores.index(max(scores))


def _rouge2(text: str, reference: str, scoring: Scoring) -> float:
    return rouge_of_examples(("rouge2",), (text,), (reference,), scoring)["rouge2"][0]


_METRICS: Mapping[str, Callable[[str, str, Scoring], float]] = {"rouge2": _rouge2, "bleu": sentence_bleu}
