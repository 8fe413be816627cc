"""The rules that a label must pass to become a target (`keep`)."""

from __future__ import annotations

from collections.abc import Mapping

from ..plan import PseudoLabelSettings

RUN = 3  # words that stand next to each other


def failed_rule(
    settings: PseudoLabelSettings, text: str, reference: str, quality: Mapping[str, float]
) -> str | None:
    """The first rule that a label fails, by its name in the spec; None: it passes. `quality`: metric -> percent."""
    if not text.strip():
        return "empty"  # no target at all, whatever the rules
    low, high = settings.min_length_ratio, settings.max_length_ratio
    ratio = length_ratio(text, reference)
    if (low is not None and ratio < low) or (high is not None and ratio > high):
        return "length_ratio"
    if settings.max_repetition is not None and repetition(text) > settings.max_repetition:
        return "max_repetition"
    for metric, least in (("rouge2", settings.min_rouge2), ("bleu", settings.min_bleu)):
        if least is not None and quality[metric] < least:
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
    runs = [tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)]
    return 100.0 * (len(runs) - len(set(runs))) / len(runs) if runs else 0.0
