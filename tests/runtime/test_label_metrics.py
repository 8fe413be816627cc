"""Accuracy, macro F1, Matthews and the correlations are those of scikit-learn and scipy, and defined where these are
not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from distilc.runtime.failure import Failure
from distilc.runtime.metrics.bootstrap import bootstrap, bootstrap_mean
from distilc.runtime.metrics.classes import confusion, macro_f1, majority, matthews
from distilc.runtime.metrics.correlation import pearson, spearman
from distilc.runtime.metrics.score import needing, score

NAMES = ["accuracy", "macro_f1", "matthews"]
TRUE = ["cat"] * 4 + ["dog"] * 3 + ["bird"] * 3
SAID = ["cat", "cat", "dog", "bird", "dog", "dog", "cat", "bird", "bird", "dog"]


def drawn(seed: int, size: int = 300) -> tuple[list[str], list[str]]:
    random = np.random.default_rng(seed)
    true = random.choice(["a", "b", "c", "d"], size, p=[0.6, 0.2, 0.15, 0.05])
    said = np.where(random.random(size) < 0.7, true, random.choice(["a", "b", "e"], size))
    return said.tolist(), true.tolist()


def test_known_values() -> None:
    """Six of ten are right. F1: bird 2/3, cat 4/7, dog 4/7. Matthews: (6*10 - 3*3 - 3*4 - 4*3) over
    sqrt((100 - 34)(100 - 34)) = 27/66."""
    found = score(NAMES, SAID, TRUE)
    assert found["accuracy"]["value"] == pytest.approx(60.0)
    assert found["macro_f1"]["value"] == pytest.approx(100 * (2 / 3 + 4 / 7 + 4 / 7) / 3)
    assert found["matthews"]["value"] == pytest.approx(100 * 27 / 66)
    classes, counts = confusion(SAID, TRUE)
    assert classes == ["bird", "cat", "dog"]
    assert counts.tolist() == [[2, 0, 1], [1, 2, 1], [0, 1, 2]]  # a row a true class


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_scored_as_by_scikit_learn(seed: int) -> None:
    """One class is never true and one never predicted."""
    said, true = drawn(seed)
    found = score(NAMES, said, true)
    assert found["accuracy"]["value"] == pytest.approx(100 * sklearn_metrics.accuracy_score(true, said))
    assert found["macro_f1"]["value"] == pytest.approx(100 * sklearn_metrics.f1_score(true, said, average="macro", zero_division=0.0))
    assert found["matthews"]["value"] == pytest.approx(100 * sklearn_metrics.matthews_corrcoef(true, said))
    for entry in found.values():
        assert entry["low"] < entry["value"] < entry["high"]


def test_the_interval_of_the_accuracy_is_that_of_its_mean() -> None:
    """Resampling the confusion matrix is resampling examples."""
    said, true = drawn(7, 1000)
    interval = bootstrap_mean([100.0 * (a == b) for a, b in zip(said, true, strict=True)])
    found = score(["accuracy"], said, true)["accuracy"]
    assert found["low"] == pytest.approx(interval.low, abs=0.3) and found["high"] == pytest.approx(interval.high, abs=0.3)


@pytest.mark.slow
def test_the_interval_of_a_resampled_formula_is_that_of_scikit_learn() -> None:
    said, true = (np.asarray(names) for names in drawn(3, 200))
    random, values = np.random.default_rng(0), []
    for _ in range(1000):
        chosen = random.integers(0, 200, 200)
        values.append(100 * sklearn_metrics.matthews_corrcoef(true[chosen], said[chosen]))
    found = score(["matthews"], said.tolist(), true.tolist())["matthews"]
    assert [found["low"], found["high"]] == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=1.0)


@pytest.mark.parametrize(
    ("said", "true", "expected"),
    [
        (["a", "a"], ["a", "a"], (100.0, 100.0, 0.0)),  # one class
        (["a", "a", "a", "a"], ["a", "b", "a", "b"], (50.0, 100 / 3, 0.0)),  # one prediction
        (["a"], ["b"], (0.0, 0.0, 0.0)),
        (["b", "a"], ["a", "b"], (0.0, 0.0, -100.0)),
    ],
)
def test_degenerate_classes(said: list[str], true: list[str], expected: tuple[float, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = score(NAMES, said, true)
    assert [found[name]["value"] for name in NAMES] == pytest.approx(expected)
    for entry in found.values():
        assert entry["low"] <= entry["high"] and np.isfinite([entry["low"], entry["high"]]).all()


def test_large_counts_do_not_overflow() -> None:
    counts = np.asarray([[900_000_000, 100_000_000], [50_000_000, 450_000_000]])
    assert matthews(counts) == pytest.approx(matthews(counts // 10_000_000))
    assert macro_f1(counts) == pytest.approx(macro_f1(counts // 10_000_000))


def texts(values: object) -> list[str]:
    return [repr(float(value)) for value in np.asarray(values)]


@pytest.mark.parametrize("seed", range(3))
def test_correlations_are_those_of_scipy(seed: int) -> None:
    random = np.random.default_rng(seed)
    y = random.integers(0, 11, 200) / 2  # as STS-B has them: many are equal
    x = y + random.normal(0, 2, 200) + 1e6  # far from zero
    found = score(["spearman", "pearson"], texts(x), texts(y))
    assert found["pearson"]["value"] == pytest.approx(100 * stats.pearsonr(x, y)[0])
    assert found["spearman"]["value"] == pytest.approx(100 * stats.spearmanr(x, y)[0])
    for entry in found.values():
        assert entry["low"] < entry["value"] < entry["high"]


def test_a_resample_is_scored_as_the_rows_that_it_has() -> None:
    random = np.random.default_rng(1)
    x, y = np.round(random.normal(size=40), 1), np.round(random.normal(size=40), 1)
    counts = random.multinomial(40, np.full(40, 1 / 40), size=3)
    for row in counts:
        chosen = np.repeat(np.arange(40), row)
        assert pearson(x, y, row[None])[0] == pytest.approx(stats.pearsonr(x[chosen], y[chosen])[0])
        assert spearman(x, y, row[None])[0] == pytest.approx(stats.spearmanr(x[chosen], y[chosen])[0])
    assert pearson(x, y, counts) == pytest.approx([pearson(x, y, row[None])[0] for row in counts])


@pytest.mark.parametrize(
    ("x", "y"),
    [([0.1, 0.1, 0.1], [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], [0.7, 0.7, 0.7]), ([1.0], [2.0])],
)
def test_numbers_that_do_not_vary_have_no_correlation(x: list[float], y: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = score(["pearson", "spearman"], texts(x), texts(y))
    assert found == {name: {"value": 0.0, "low": 0.0, "high": 0.0} for name in ("pearson", "spearman")}


@pytest.mark.parametrize(
    ("predictions", "references", "said", "hint"),
    [
        (["1.0", "nan"], ["1.0", "2.0"], "pearson compare numbers, and the prediction of row 2 is 'nan'", "not finite"),
        (["1.0", "2.0"], ["neutral", "2.0"], "the reference of row 1 is 'neutral'", "accuracy, macro_f1 or matthews"),
        (["1.0", "2.0"], ["-inf", "2.0"], "the reference of row 1 is '-inf'", "not finite"),
    ],
)
def test_what_is_not_a_number_is_told(predictions: list[str], references: list[str], said: str, hint: str) -> None:
    with pytest.raises(Failure) as caught:
        score(["pearson"], predictions, references)
    assert caught.value.code == "R375" and said in caught.value.message and hint in caught.value.hint


def test_all_are_metrics_of_labels() -> None:
    names = [*NAMES, "pearson", "spearman"]
    assert needing([*names, "rouge2", "loss"], "labels") == names


def test_the_majority_is_that_of_the_training_set() -> None:
    """`no` is the most frequent class of the test set, and is not what a classifier can know."""
    found = majority(["yes", "no", "yes"], ["no", "no", "no", "yes"], ["accuracy", "matthews"])
    assert found["accuracy"]["value"] == pytest.approx(25.0) and found["matthews"]["value"] == 0.0
    assert found["accuracy"]["class"] == "yes"
    assert majority(["b", "a"], ["a"], ["accuracy"])["accuracy"]["class"] == "a"  # the first by name


def test_a_bootstrap_in_chunks_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.asarray([30, 70])
    whole = bootstrap(lambda resampled: resampled[:, 0] / 100, counts)
    monkeypatch.setattr("distilc.runtime.metrics.bootstrap._CHUNK_BYTES", 16 * 7)
    assert bootstrap(lambda resampled: resampled[:, 0] / 100, counts) == whole
    assert whole.low < 0.3 < whole.high and whole.median == pytest.approx(0.3, abs=0.01)
