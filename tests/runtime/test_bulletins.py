"""The built-in corpus: the same rows everywhere, disjoint splits, and a lead that is no summary."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from distilc.runtime.data.bulletins import SPLITS, bulletin, bulletins, wordings
from distilc.runtime.metrics.rouge import rouge
from distilc.runtime.metrics.sentences import split_sentences


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict[str, str]]]:
    return {split: list(bulletins(split, 1000)) for split in SPLITS}


def test_first_row() -> None:
    row = bulletin("test", 0)
    assert row["id"] == "bulletins-test-0"
    assert row["source"] == (
        "Local politics: Harwick has something to build. For Mercer, the mayor, it is a late success. "
        "Pictures of it went around within minutes. The diggers come in March. There was a long debate in the "
        "town hall of Harwick. It will cost the town 18 million. Upwell had turned down such a plan. At last "
        "there is money for the cinema. You can write to us about this report."
    )
    assert row["target"] == (
        "The town of Harwick and its mayor Mercer will spend 18 million on another cinema"
        ", to be begun by March."
    )


def test_a_row_does_not_depend_on_the_limit(rows: dict[str, list[dict[str, str]]]) -> None:
    assert list(bulletins("validation", 7)) == rows["validation"][:7]
    assert bulletin("train", 999) == rows["train"][999]


def test_no_text_comes_twice_or_in_two_splits(rows: dict[str, list[dict[str, str]]]) -> None:
    sources = [row["source"] for part in rows.values() for row in part]
    assert len(set(sources)) == len(sources) == 3000


def test_every_report_names_what_decides_its_split() -> None:
    """The pair of names that belongs to one split stands in every wording of its facts."""
    for event in wordings()["events"]:
        for slot in list(event["slots"])[:2]:
            assert any(all(f"{{{slot}}}" in text for text in fact) for fact in event["sentences"]), event["target"]


def test_the_target_says_only_what_the_report_says(rows: dict[str, list[dict[str, str]]]) -> None:
    names = {word for pool in wordings()["pools"].values() for word in pool}

    def facts(text: str) -> Iterator[str]:
        yield from (word for word in text.replace(",", " ").replace(".", " ").split() if word in names)

    for row in rows["test"]:
        assert set(facts(row["target"])) <= set(facts(row["source"]))
        assert len(set(facts(row["target"]))) == 5


def test_the_lead_is_a_weak_summary(rows: dict[str, list[dict[str, str]]]) -> None:
    sources = [split_sentences(row["source"]) for row in rows["test"]]
    assert 5 <= min(map(len, sources)) <= max(map(len, sources)) <= 10
    targets = [row["target"] for row in rows["test"]]
    for num_sentences in (1, 2, 3):
        leads = [" ".join(sentences[:num_sentences]) for sentences in sources]
        assert 2 < rouge(["rouge2"], leads, targets)["rouge2"]["value"] < 8


def test_a_text_is_whole() -> None:
    for row in bulletins("train", 300):
        assert "{" not in row["source"] + row["target"]
        for sentence in [*split_sentences(row["source"]), row["target"]]:
            assert sentence[0].isupper() or sentence[0].isdigit()
            assert sentence.endswith(".")
