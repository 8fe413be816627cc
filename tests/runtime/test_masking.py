"""Which tokens are masked: how many, which ones, the same whatever cuts a step; texts in blocks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from distilc.runtime.data.batches import micro_batches
from distilc.runtime.data.blocks import blocks
from distilc.runtime.data.masking import FIXED, Choice, choice_of, masked_alike, masked_anew, read_counts, write_counts
from distilc.runtime.data.rows import Rows, write_rows
from distilc.runtime.data.tokenize import Counts
from distilc.runtime.failure import Failure
from distilc.runtime.plan.settings import MaskingSettings
from distilc.runtime.tasks.masked_lm import MASKED_LM

V, MASK, SPECIAL = 1000, 4, (0, 1, 2, 3, 4)
MASKING = MaskingSettings(share=15.0, masked=80.0, random=10.0, rare=0.7)
OFFSET = 5  # the first token that is none of the special ones


class Tokenizer:
    """A word is its number; `[CLS] text [SEP]`."""

    mask_token_id, unk_token_id, pad_token_id, all_special_ids = MASK, 1, 0, list(SPECIAL)

    def __len__(self) -> int:
        return V

    def __call__(self, text: Any, add_special_tokens: bool = True, return_offsets_mapping: bool = False) -> Any:
        if isinstance(text, str):
            return {"input_ids": self._ids(text, add_special_tokens)}
        spans = []
        for one in text:
            ends = np.cumsum([len(word) + 1 for word in one.split()]) - 1
            spans.append([(int(end) - len(word), int(end)) for word, end in zip(one.split(), ends, strict=True)])
        return {"input_ids": [self._ids(one, add_special_tokens) for one in text], "offset_mapping": spans}

    def _ids(self, text: str, added: bool) -> list[int]:
        ids = [int(word) if word.isdecimal() else 1 for word in text.split()]
        return [2, *ids, 3] if added else ids


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """3,000 rows of 16 to 64 tokens: half of them token 5, the others alike."""
    random = np.random.default_rng(1)
    written = []
    for i in range(3000):
        length = int(random.integers(14, 62))
        ids = np.where(random.random(length) < 0.5, OFFSET, random.integers(OFFSET + 1, V, length))
        written.append(([2, *ids.tolist(), 3], [], {"id": str(i), "source": "", "target": ""}))
    write_rows(tmp_path, "train", written)
    write_counts(tmp_path, np.load(tmp_path / "train.source.npy"), Tokenizer())
    return Rows.open(tmp_path, "train")


def choice(rows: Rows, rare: float = 0.0) -> Choice:
    return choice_of(Tokenizer(), read_counts(rows.folder), rare)


def shown(rows: Rows, masked: Rows, ids: Any) -> tuple[Any, Any, Any]:
    """(tokens as they are, what is read, labels) of some rows, one after the other."""
    return tuple(np.concatenate([part(int(i)) for i in ids]) for part in (rows.source, masked.source, masked.target))


def test_shares_and_special_tokens(rows: Rows) -> None:
    ids = np.arange(3000)
    tokens, read, labels = shown(rows, masked_anew(rows, ids, choice(rows), MASKING, 7, 0), ids)
    chosen = labels != -100
    assert chosen.sum() == math.ceil(0.15 * len(tokens))
    assert (labels[chosen] == tokens[chosen]).all() and (read[~chosen] == tokens[~chosen]).all()
    assert not np.isin(tokens[chosen], SPECIAL).any()
    number = chosen.sum()
    of_mask, kept = (read[chosen] == MASK).mean(), (read[chosen] == tokens[chosen]).mean()
    deviation = 4 * math.sqrt(0.25 / number)
    assert abs(of_mask - 0.8) < deviation and abs(kept - 0.1) < deviation  # a random token is rarely the same
    others = read[chosen & (read != MASK) & (read != tokens)]
    assert abs(len(others) / number - 0.1) < deviation
    # Uniform over the vocabulary, special tokens among it.
    halves = np.histogram(others, bins=[0, V // 4, V // 2, 3 * V // 4, V])[0] / len(others)
    assert np.abs(halves - 0.25).max() < 4 * math.sqrt(0.19 / len(others)) and np.isin(others, SPECIAL).any()


def test_frequent_tokens_are_chosen_less_often_by_the_power_of_their_count(rows: Rows) -> None:
    ids = np.arange(3000)
    plain, smoothed = [], []
    for found, rare in ((plain, 0.0), (smoothed, 0.7)):
        tokens, _, labels = shown(rows, masked_anew(rows, ids, choice(rows, rare), MASKING, 7, 0), ids)
        chosen = labels != -100
        frequent = (tokens == OFFSET).sum()
        found += [(tokens[chosen] == OFFSET).mean(), frequent / (tokens >= OFFSET).sum()]
    assert abs(plain[0] - plain[1]) < 0.02
    weights = choice(rows, 0.7).weights
    counts = read_counts(rows.folder)
    assert weights[OFFSET] == pytest.approx(counts[OFFSET] ** -0.7) and (weights[list(SPECIAL)] == 0).all()
    # Without replacement: as the exact sampler, drawn one after the other.
    expected = _one_after_the_other(rows, weights)
    assert abs(smoothed[0] - expected) < 0.01 and smoothed[0] < 0.05


def _one_after_the_other(rows: Rows, weights: Any) -> float:
    """The share of token 5 among torch's multinomial draws without replacement (what DistilBERT's code does)."""
    tokens = np.load(rows.folder / "train.source.npy")
    torch.manual_seed(3)
    drawn = torch.multinomial(torch.from_numpy(weights[tokens]), math.ceil(0.15 * len(tokens)), replacement=False)
    return float((tokens[drawn.numpy()] == OFFSET).mean())


def test_every_epoch_draws_anew_and_every_time_the_same(rows: Rows) -> None:
    ids = np.arange(100, 164)

    def drawn(seed: int, epoch: int) -> Any:
        return shown(rows, masked_anew(rows, ids, choice(rows, 0.7), MASKING, seed, epoch), ids)[1]

    assert (drawn(7, 0) == drawn(7, 0)).all()
    assert (drawn(7, 0) != drawn(7, 1)).mean() > 0.1 and (drawn(7, 0) != drawn(8, 0)).mean() > 0.1


@pytest.mark.parametrize(("world", "tokens"), [(1, 400), (2, 1 << 20), (2, 300)])
def test_ranks_and_micro_batches_change_nothing(rows: Rows, world: int, tokens: int) -> None:
    """Each rank draws for itself, knowing the step: together they have what one has."""
    ids = np.random.default_rng(5).permutation(3000)[:48]
    settings: Any = SimpleNamespace(masking=MASKING, seed=7)
    whole = MASKED_LM.drawn(rows, ids, Tokenizer(), settings, 3)
    expected = {int(i): (whole.source(i).tolist(), whole.target(i).tolist()) for i in ids}
    counts = MASKED_LM.num_items(whole, ids)
    assert counts["label-tokens"] == math.ceil(0.15 * counts["source-tokens"])
    found: dict[int, Any] = {}
    labels = 0
    for rank in range(world):
        mine = MASKED_LM.drawn(rows, ids, Tokenizer(), settings, 3)
        for micro in micro_batches(ids, mine.source_lengths, mine.target_lengths, world, tokens):
            batch = MASKED_LM.collate(mine, micro[rank], 0)
            assert batch["labels"].shape == batch["input_ids"].shape
            labels += int((batch["labels"] != -100).sum())
            for b, i in enumerate(micro[rank]):
                real = int(batch["attention_mask"][b].sum())
                found[int(i)] = (batch["input_ids"][b, :real].tolist(), batch["labels"][b, :real].tolist())
                assert (batch["labels"][b, real:] == -100).all()
    assert found == expected and labels == counts["label-tokens"]


def test_validations_and_evaluations_see_the_same_tokens(rows: Rows) -> None:
    first, second = (masked_alike(rows, choice_of(Tokenizer())) for _ in range(2))
    for i in (0, 17, 2999):
        assert (first.source(i) == second.source(i)).all() and (first.target(i) == second.target(i)).all()
        assert (first.target(i) != -100).sum() == math.ceil(FIXED.share * rows.source_lengths[i] / 100)
    settings: Any = SimpleNamespace(masking=replace(MASKING, share=40.0), seed=7)
    drawn = MASKED_LM.drawn(rows, np.arange(3), Tokenizer(), settings, None)
    assert all((drawn.target(i) == first.target(i)).all() for i in range(3))  # whatever a training does
    other = Rows.open(rows.folder, "train")
    other.split = "test.test"
    assert any((masked_alike(other, choice_of(Tokenizer())).target(i) != first.target(i)).any() for i in range(3))


# --- blocks ----------------------------------------------------------------------------------------


def cut(texts: list[str], most: int = 20, tokenizer: Any = None) -> tuple[list[Any], Counts]:
    counts, settings = Counts(), SimpleNamespace(max_source_tokens=most)
    given = ({"id": f"t{i}", "source": text, "target": ""} for i, text in enumerate(texts))
    found = list(blocks(given, tokenizer or Tokenizer(), settings, counts, lambda done: None))  # type: ignore[arg-type]
    return found, counts


def words(start: int, number: int) -> str:
    return " ".join(str(start + i) for i in range(number))


def test_a_long_text_is_several_blocks_each_wrapped(rows: Rows) -> None:
    found, counts = cut([words(100, 50), words(300, 18)])
    assert [len(ids) for ids, _, _ in found] == [20, 20, 16, 20]
    assert all(ids[0] == 2 and ids[-1] == 3 and 2 not in ids[1:] and not target for ids, target, _ in found)
    assert [word for ids, _, _ in found[:3] for word in ids[1:-1]] == list(range(100, 150))
    assert [raw["id"] for _, _, raw in found] == ["t0", "t0#2", "t0#3", "t1"]
    assert [raw["source"] for _, _, raw in found[:3]] == [words(100, 18), words(118, 18), words(136, 14)]
    assert (counts.examples, counts.source_tokens, counts.left_out) == (4, 76, 0)


def test_what_is_short_or_unknown_is_left_out(rows: Rows) -> None:
    found, counts = cut([words(100, 9), words(100, 10), "x " * 9 + words(100, 9), "x " * 10 + words(100, 8)])
    assert [len(ids) for ids, _, _ in found] == [12, 20] and counts.left_out == 2


def test_texts_of_which_nothing_is_left_are_a_diagnosis(rows: Rows) -> None:
    with pytest.raises(Failure, match="nothing is left of 2 texts") as caught:
        cut(["7 8 9", "x"])
    assert caught.value.code == "R204"


def test_a_tokenizer_without_mask_token_is_a_diagnosis(rows: Rows) -> None:
    tokenizer = Tokenizer()
    tokenizer.mask_token_id = None  # type: ignore[assignment]
    with pytest.raises(Failure, match="no mask token") as caught:
        cut([words(100, 50)], tokenizer=tokenizer)
    assert caught.value.code == "R218"
