"""BLEU and chrF are sacrebleu's, with its signature."""

from __future__ import annotations

import pytest
import sacrebleu

from distilc.runtime.failure import Failure
from distilc.runtime.metrics.score import score

PREDICTIONS = ["the cat sat on the mat", "hello world this is a test", "Ein Mann geht über die Straße."]
REFERENCES = ["the cat sat on the mat .", "hello world this is a big test", "Ein Mann läuft über eine Straße."]


def test_corpus_scores() -> None:
    found = score(["bleu", "chrf"], PREDICTIONS, REFERENCES)
    assert found["bleu"]["value"] == pytest.approx(sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES]).score)
    assert found["chrf"]["value"] == pytest.approx(sacrebleu.corpus_chrf(PREDICTIONS, [REFERENCES]).score)
    assert found["bleu"]["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert found["bleu"]["low"] < found["bleu"]["value"] < found["bleu"]["high"]


def test_an_interval_stays_within_the_scale() -> None:
    """Of two rows, one without a word in common with any other: mean and half width of the bootstrap reach beyond."""
    rows = ["the cat sat on the mat today", "yes"]
    found = score(["bleu", "chrf"], rows, rows)
    for entry in found.values():
        assert entry["value"] == pytest.approx(100.0) and 0.0 <= entry["low"] <= entry["high"] <= 100.0
    assert found["bleu"]["low"] < 90.0  # some resamples have the short row alone


def test_unknown_metrics_are_refused() -> None:
    with pytest.raises(Failure, match="meteor") as caught:
        score(["meteor"], PREDICTIONS, REFERENCES)
    assert caught.value.code == "R305"
