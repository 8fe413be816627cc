"""ROUGE against rouge_score's own numbers, the splitter, and the interval."""

from __future__ import annotations

import numpy as np
import pytest

from distilc.runtime.metrics.bootstrap import bootstrap_mean
from distilc.runtime.metrics.rouge import rouge, rouge_of_examples
from distilc.runtime.metrics.sentences import split_sentences

PREDICTIONS = ["The cats sat on the mat. It rained.", "Police arrested two men.", ""]
REFERENCES = ["It was raining. A cat sits on the mat.", "Two men were arrested by police in Leeds.", "Nothing."]


def test_stemmed_f1_by_hand() -> None:
    found = rouge_of_examples(["rouge1", "rouge2"], PREDICTIONS, REFERENCES)
    # stems: the cat sat on the mat it rain (8) / it wa rain a cat sit on the mat (9): it rain cat on the mat = 6
    assert found["rouge1"][0] == pytest.approx(100 * 2 * 6 / (8 + 9))
    # police arrest two men (4) / two men were arrest by police in leed (8): 4 in common, one bigram (two men)
    assert found["rouge1"][1] == pytest.approx(100 * 2 * 4 / 12)
    assert found["rouge2"][1] == pytest.approx(100 * 2 * 1 / (3 + 7))
    assert found["rouge1"][2] == 0.0


def test_rouge_lsum_is_not_rouge_l() -> None:
    found = rouge(["rougeL", "rougeLsum"], PREDICTIONS[:1], REFERENCES[:1])
    assert found["rougeL"]["value"] == pytest.approx(100 * 2 * 4 / 17)  # cat on the mat
    assert found["rougeLsum"]["value"] == pytest.approx(100 * 2 * 6 / 17)  # and: it rain
    assert found["rougeLsum"]["splitter"] == "rules-1"


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It rained. Then it stopped.", ["It rained.", "Then it stopped."]),
        ("Dr. Lee met J. Smith at 5 p.m. in Leeds. He left.", ["Dr. Lee met J. Smith at 5 p.m. in Leeds.", "He left."]),
        ('"Why?" she asked. "No." He left!', ['"Why?" she asked.', '"No."', "He left!"]),
        ("Prices rose 3.5 per cent to 1.2 million.", ["Prices rose 3.5 per cent to 1.2 million."]),
        ("Über Nacht fiel Schnee. Ärzte warnen.", ["Über Nacht fiel Schnee.", "Ärzte warnen."]),
        ("one\n\ntwo", ["one", "two"]),
        ("", []),
    ],
)
def test_splitter(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


def test_interval_holds_the_mean_and_is_the_same_every_time() -> None:
    values = np.random.default_rng(0).normal(20.0, 5.0, 400).tolist()
    interval = bootstrap_mean(values)
    mean = float(np.mean(values))
    assert interval.low < mean < interval.high
    assert interval == bootstrap_mean(values)
    # the normal approximation of a mean's 95 % interval: 1.96 * 5 / sqrt(400) = 0.49 on each side
    assert interval.high - interval.low == pytest.approx(0.98, abs=0.12)
    assert interval.median == pytest.approx(mean, abs=0.05)
