"""What the labels of a labeller are like: how many, how good, how long, and why the others were left out."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..generation.ends import Ends
from .record import Label

WORDS = {
    "missing": "not in the file",
    "empty": "empty",
    "length_ratio": "of another length",
    "max_repetition": "repeating themselves",
    "min_rouge2": "below min_rouge2",
    "min_bleu": "below min_bleu",
}


class Statistics:
    """Sums over labels, added one by one in the order of the data."""

    def __init__(self) -> None:
        self.rows = 0
        self.dropped: Counter[str] = Counter()
        self.ends = Ends()
        self._sums: dict[str, float] = {}
        self._counts: Counter[str] = Counter()

    def add(self, label: Label, reference: str) -> None:
        """A label and the original target of its row."""
        self.rows += 1
        if label.dropped is not None:
            self.dropped[label.dropped] += 1
        if label.text is None:
            return
        self.ends.add(label.at_limit)
        self._mean("words", len(label.text.split()))
        self._mean("reference_words", len(reference.split()))
        if label.score is not None:
            self._mean("score", label.score)
        for metric, value in label.quality.items():
            self._mean(metric, value)
            if label.dropped is None:
                self._mean(f"{metric}_kept", value)

    @property
    def kept(self) -> int:
        """How many are targets."""
        return self.rows - self.dropped.total()

    def summary(self) -> dict[str, Any]:
        """`quality.json`: {rows, kept, dropped: {rule: number}, means}. Means are over the labels that there are,
        `METRIC_kept` over those that are kept: `rouge2` and `bleu` in percent, lengths in words, `score` as the
        labeller gave it. `at_limit`: how many end at the length limit, where some do."""
        at_limit = {"at_limit": self.ends.num_at_limit} if self.ends.num_at_limit else {}
        means = {name: total / self._counts[name] for name, total in sorted(self._sums.items())}
        dropped = dict(sorted(self.dropped.items()))
        return {"rows": self.rows, "kept": self.kept, "dropped": dropped, **at_limit, **means}

    def _mean(self, name: str, value: float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts[name] += 1


def metrics(summary: dict[str, Any]) -> dict[str, float]:
    """A summary as metrics of the journal: `labels/rouge2`, `labels/kept`, `labels/dropped/min_rouge2`."""
    flat = {f"labels/{name}": float(value) for name, value in summary.items() if name != "dropped"}
    return flat | {f"labels/dropped/{rule}": float(number) for rule, number in summary["dropped"].items()}


def line(summary: dict[str, Any], proxy: str) -> str:
    """One line for people."""
    told = f"{summary['kept']:,} of {summary['rows']:,} labels kept"
    dropped = [f"{number:,} {WORDS.get(rule, rule)}" for rule, number in summary["dropped"].items()]
    if dropped:
        told += f" ({', '.join(dropped)})"
    if proxy in summary:
        told += f"; {proxy} {summary[proxy]:.2f}"
        if dropped and f"{proxy}_kept" in summary:
            told += f", of those kept {summary[f'{proxy}_kept']:.2f}"
    return f"{told}; {summary['words']:.1f} words" if "words" in summary else told
