"""What a label is worth: how close it is to the original target of its row, and whether it becomes a target (`keep`).

ROUGE-2 of labels against training targets is the proxy of arXiv 2010.13002, section 6.2: where it is higher the
students that are trained on the labels are better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..extensions import TASKS
from ..metrics.bleu import sentence_bleu
from ..metrics.rouge import rouge_of_examples
from ..metrics.score import with_line_breaks
from ..plan.settings import PseudoLabelSettings, Scoring

REPEATED_WORDS = 3  # how many words in a row count as a repetition


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


# --- the rules ---------------------------------------------------------------------------------------


def failed_rule(
    settings: PseudoLabelSettings, text: str, reference: str, scores: Mapping[str, float]
) -> str | None:
    """The first rule of `keep` that a label fails, by its name in the spec; None: it becomes a target. `scores`: what
    `quality` gave."""
    if not text.strip():
        return "empty"  # no target at all, whatever the rules
    low, high = settings.min_length_ratio, settings.max_length_ratio
    ratio = length_ratio(text, reference)
    if (low is not None and ratio < low) or (high is not None and ratio > high):
        return "length_ratio"
    if settings.max_repetition is not None and repetition(text) > settings.max_repetition:
        return "max_repetition"
    for metric, least in (("rouge2", settings.min_rouge2), ("bleu", settings.min_bleu)):
        if least is not None and scores[metric] < least:
            return f"min_{metric}"
    return None


def length_ratio(text: str, reference: str) -> float:
    """The length of a label over that of the original target. In characters: the same for every tokenizer, for
    labels of a file, and for scripts that put no spaces between words."""
    return len(text.strip()) / max(1, len(reference.strip()))


def repetition(text: str) -> float:
    """How much a text repeats itself, in percent: the share of its runs of three words that stand in it before.
    0 for fewer than four words."""
    words = text.split()
    runs = [tuple(words[i : i + REPEATED_WORDS]) for i in range(len(words) - REPEATED_WORDS + 1)]
    return 100.0 * (len(runs) - len(set(runs))) / len(runs) if runs else 0.0
