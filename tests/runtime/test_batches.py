"""The order of examples, steps, micro-batches, and how little of them is padding."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from distilc.runtime.data.batches import collate, epoch_steps, micro_batches, sorted_batches
from distilc.runtime.data.rows import Rows, write_rows

SHARED = Path(__file__).parents[2].parent / "shared"
CASES = [("tokens", 4096), ("tokens", 1536), ("examples", 64)]


def reports(num_rows: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """Lengths like those of reports and one-sentence summaries."""
    random = np.random.default_rng(0)
    source = random.normal(80, 12, num_rows).astype(np.int64).clip(40, 128)
    return source, random.normal(20, 3, num_rows).astype(np.int64).clip(8, 40)


def padded(part: np.ndarray, source: np.ndarray, target: np.ndarray) -> int:
    return int(len(part) * (source[part].max() + target[part].max())) if len(part) else 0


def real_share(source: np.ndarray, target: np.ndarray, unit: str, size: int, world: int, budget: int) -> float:
    real = places = 0
    for step in epoch_steps(source, target, unit, size, 7, 0):
        for micro_step in micro_batches(step, source, target, world, budget):
            places += sum(padded(part, source, target) for part in micro_step)
        real += int((source + target)[step].sum())
    return real / places


@pytest.mark.parametrize(("unit", "size"), CASES)
@pytest.mark.parametrize("epoch", [0, 3])
def test_an_epoch_has_every_example_once(unit: str, size: int, epoch: int) -> None:
    source, target = reports(5000)
    steps = epoch_steps(source, target, unit, size, 1, epoch)
    assert np.sort(np.concatenate(steps)).tolist() == list(range(5000))


def test_steps_have_the_asked_size() -> None:
    source, target = reports()
    by_examples = [len(step) for step in epoch_steps(source, target, "examples", 64, 1, 0)]
    assert len(by_examples) == 94  # ceil(6000 / 64)
    assert max(by_examples) == 64 and min(by_examples) >= 62
    by_tokens = [int((source + target)[step].sum()) for step in epoch_steps(source, target, "tokens", 4096, 1, 0)]
    assert max(by_tokens) < 4096 + 168 and min(by_tokens) > 0.9 * 4096  # to within a row; no small remainder
    assert np.mean(by_tokens) == pytest.approx(4096, rel=0.02)


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    source, target = reports(1000)

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(epoch_steps(source, target, "examples", 16, seed, epoch)).tolist()

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    # Pinned: another order is another result for every finished run.
    assert order(1, 0)[:6] == PINNED


PINNED = [338, 764, 247, 620, 686, 48]


def test_the_longest_row_comes_first() -> None:
    source, target = reports(2000)
    source[1234] = 500
    assert 1234 in epoch_steps(source, target, "examples", 32, 1, 0)[0]


@pytest.mark.parametrize(("unit", "size"), CASES)
@pytest.mark.parametrize("world", [1, 2])
def test_nine_in_ten_tokens_of_reports_are_real(unit: str, size: int, world: int) -> None:
    assert real_share(*reports(), unit, size, world, 4096) > 0.95


@pytest.mark.parametrize(("unit", "size"), CASES)
@pytest.mark.parametrize("world", [1, 2])
def test_nine_in_ten_tokens_of_captions_are_real(unit: str, size: int, world: int) -> None:
    file = SHARED / "data" / "multi30k" / "train.jsonl"
    if not file.exists():
        pytest.skip(f"{file} is not here")
    pairs = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    source, target = (np.array([len(pair[language].split()) + 1 for pair in pairs]) for language in ("en", "de"))
    assert real_share(source, target, unit, size, world, 4096) > 0.9


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("budget", [300, 1000, 100_000])
def test_micro_batches_share_out_a_step(world: int, budget: int) -> None:
    source, target = reports()
    step = epoch_steps(source, target, "tokens", 4096, 1, 0)[5]
    parts = micro_batches(step, source, target, world, budget)
    flat = [part for micro_step in parts for part in micro_step]
    assert all(len(micro_step) == world for micro_step in parts)
    assert np.sort(np.concatenate(flat)).tolist() == np.sort(step).tolist()
    assert max(padded(part, source, target) for part in flat) <= budget
    costs = [[padded(part, source, target) for part in micro_step] for micro_step in parts]
    longest_row = int((source + target)[step].max())
    assert all(max(cost) - min(cost) <= 2 * longest_row for cost in costs)


def test_a_long_row_is_alone_and_ranks_may_be_idle() -> None:
    source, target = np.array([10, 900, 11]), np.array([5, 50, 5])
    parts = micro_batches(np.array([0, 1, 2]), source, target, 2, 100)
    assert [[part.tolist() for part in micro_step] for micro_step in parts] == [[[1], [0, 2]]]
    parts = micro_batches(np.array([2]), source, target, 3, 100)
    assert [[part.tolist() for part in micro_step] for micro_step in parts] == [[[2], [], []]]


def test_sorted_batches() -> None:
    lengths = np.array([3, 9, 5, 9, 1, 2])
    assert [batch.tolist() for batch in sorted_batches(lengths, 18)] == [[1, 3], [2, 0, 5], [4]]
    assert [batch.tolist() for batch in sorted_batches(lengths, None, max_rows=4)] == [[1, 3, 2, 0], [5, 4]]
    assert [batch.tolist() for batch in sorted_batches(lengths, 4)] == [[1], [3], [2], [0], [5, 4]]


def test_even_batches_are_not_padded_to_one_long_row() -> None:
    lengths = np.array([100, 95, 90, 85, 60, 59, 58, 20, 19, 18, 17])
    assert [batch.tolist() for batch in sorted_batches(lengths, 400)] == [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9], [10]]
    even = [batch.tolist() for batch in sorted_batches(lengths, 400, even=True)]
    assert even == [[0, 1, 2], [3, 4], [5, 6], [7, 8, 9, 10]]
    # What is alike is not split: batches are as large as the budget allows.
    assert [len(batch) for batch in sorted_batches(np.full(10, 100), 400, even=True)] == [4, 4, 2]


def test_collate(tmp_path: Path) -> None:
    texts = {"id": "", "source": "", "target": ""}
    write_rows(tmp_path, "train", [([5, 6, 1], [7, 1], texts), ([8, 1], [9, 9, 1], texts)])
    batch = collate(Rows.open(tmp_path, "train"), [1, 0], pad_id=0)
    assert batch["input_ids"].tolist() == [[8, 1, 0], [5, 6, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["labels"].tolist() == [[9, 9, 1], [7, 1, -100]]
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


def test_an_idle_rank_gets_a_row_without_tokens(tmp_path: Path) -> None:
    write_rows(tmp_path, "train", [([5, 1], [7, 1], {"id": "", "source": "", "target": ""})])
    batch = collate(Rows.open(tmp_path, "train"), np.array([], dtype=np.int64), pad_id=3)
    assert batch["input_ids"].tolist() == [[3]] and batch["attention_mask"].tolist() == [[0]]
    assert batch["labels"].tolist() == [[-100]]
