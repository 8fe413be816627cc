"""Metric names -> their scores. The metrics themselves are found by name (`runtime/extensions.py`)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from ..extensions import OWN, Entry, Registry, blamed, entry_of
from ..failure import Failure
from ..plan.settings import Scoring
from ..protocol import Metric, References, ScoreInputs, several

METRICS: Registry[Metric] = Registry("metrics", Metric)


def needing(metrics: Sequence[str], what: Literal["texts", "labels", "loss"]) -> list[str]:
    """Those of the metrics that are computed from this. Raises `Failure` R305: one of them is not registered."""
    return [name for name in metrics if _metric(name).needs == what]


def score(
    metrics: Sequence[str], predictions: Sequence[str], references: References, scoring: Scoring | None = None
) -> dict[str, dict[str, Any]]:
    """Metric -> {value, low, high, ...} for texts (or names of labels) in the order of their references, one or several
    for each.

    Raises ValueError for no texts at all (the data stage excludes it), `Failure` R305 for a metric that is not
    registered, R108 for a package's metric that goes wrong.
    """
    if not predictions:
        raise ValueError("cannot score nothing")
    scoring = scoring or Scoring()
    rows = [several(row) for row in references]
    if (mark := scoring.line_break) is not None:
        predictions = [with_line_breaks(text, mark) for text in predictions]
        rows = [[with_line_breaks(text, mark) for text in row] for row in rows]
    inputs = ScoreInputs(
        predictions=predictions,
        references=[row[0] for row in rows],
        all_references=rows if any(len(row) > 1 for row in rows) else (),
        scoring=scoring,
    )
    return _scores(metrics, inputs)


def with_line_breaks(text: str, mark: str | None) -> str:
    """A text as it is scored: what stands for a line break in it is one (Pegasus writes `<n>`)."""
    return text if mark is None else text.replace(mark, "\n")


def score_loss(metrics: Sequence[str], loss: float) -> dict[str, dict[str, Any]]:
    """Metric -> {value, ...} from the loss, in nats per label token. Raises as `score`."""
    return _scores(metrics, ScoreInputs(loss=loss))


def how_scored(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How the words of the texts were found, where not as usual, and how many references there are."""
    told: list[str] = []
    for entry in scores.values():
        words = f"ROUGE by {entry['tokenizer']} words" if "tokenizer" in entry else "ROUGE"
        if "stemmer" in entry:
            told.append(f"{words} {'with' if entry['stemmer'] else 'without'} stemmer")
        tokenizer = re.search(r"\btok:([^|]*)", entry.get("signature", ""))
        if tokenizer is not None and tokenizer[1] != "13a":
            told.append(f"BLEU by {tokenizer[1]}")
        if entry.get("references", 1) > 1 or re.search(r"\bnrefs:(?!1\b)", entry.get("signature", "")):
            told.append("several references a row")
    return list(dict.fromkeys(told))


def _scores(metrics: Sequence[str], inputs: ScoreInputs) -> dict[str, dict[str, Any]]:
    """Metrics that share a function are computed in one call. Where less is better the score says so."""
    together: dict[Callable[..., Any], list[str]] = {}
    for name in metrics:
        together.setdefault(_metric(name).score, []).append(name)
    found: dict[str, dict[str, Any]] = {}
    for function, names in together.items():
        entry = entry_of("metrics", names[0])
        with blamed(entry):
            result = function(names, inputs)
            found.update({name: _checked(result[name], entry) for name in names})
    for name in metrics:
        if not METRICS[name].higher_is_better:
            found[name]["higher_is_better"] = False
    return {name: found[name] for name in metrics}


def _checked(score: Mapping[str, Any], entry: Entry) -> dict[str, Any]:
    if not math.isfinite(score["value"]):
        said = f"gave {score['value']!r}, which is not a finite number"
        if entry.distribution != OWN:
            raise entry.failure(said)
        raise Failure("R301", f"the metric {entry.name} {said}",
                      "the model's weights are so large that its states overflow: train it with a lower learning rate, "
                      "or evaluate in fp32")  # fmt: skip
    return dict(score)


def _metric(name: str) -> Metric:
    if name not in METRICS:
        raise Failure("R305", f"there is no metric {name} in this release", "choose another",
                      spec_path="evaluation.metrics")  # fmt: skip
    return METRICS[name]
