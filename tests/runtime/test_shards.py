"""Shards: which rows are in them, and that engines make the same batches of them as of all rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distilc.runtime.failure import Failure
from distilc.runtime.generation import shards
from distilc.runtime.generation.engine import batches
from distilc.runtime.generation.shards import in_order, pending, whole_batches, write_shard


@pytest.mark.parametrize("width", [1, 2, 5, 60])
@pytest.mark.parametrize(("shortest", "longest"), [(1, 12), (5, 900), (300, 310)])
def test_a_shard_is_of_whole_batches(width: int, shortest: int, longest: int) -> None:
    lengths = np.random.default_rng(width).integers(shortest, longest, 1500)
    at_once = batches(lengths, width)
    found = whole_batches(at_once, lengths)
    made = [shard[batch] for shard in found for batch in batches(lengths[shard], width)]
    assert [batch.tolist() for batch in made] == [batch.tolist() for batch in at_once]
    assert len(found) > 4
    assert all(len(rows) <= 256 and len(rows) * lengths[rows].max() <= 32768 for rows in found)


def test_a_batch_that_is_larger_than_a_shard_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_TOKENS", 100)
    lengths = np.asarray([7] * 40)
    assert [len(rows) for rows in whole_batches([np.arange(20), np.arange(20, 40)], lengths)] == [20, 20]
    assert whole_batches([], lengths[:0]) == []


def test_lines_come_back_in_the_order_of_the_rows(tmp_path: Path) -> None:
    found = [np.asarray([3, 0]), np.asarray([1, 4, 2])]
    write_shard(tmp_path, 1, ['"one"\n', '"four"\n', '"two"\n'])
    assert pending(tmp_path, 2) == [0]
    write_shard(tmp_path, 0, ['"three"\n', '"zero"\n'])
    assert pending(tmp_path, 2) == []
    assert b"".join(in_order(tmp_path, found)) == b'"zero"\n"one"\n"two"\n"three"\n"four"\n'


@pytest.mark.parametrize(("damage", "how"), [(b'"one"\n"two"\n', "2 lines for 3 rows"), (b'"one"\n\0\0\0\n"two"\n', "line 2")])
def test_a_damaged_shard_is_a_diagnosis_and_can_be_done_again(damage: bytes, how: str, tmp_path: Path) -> None:
    write_shard(tmp_path, 0, ['"one"\n', '"four"\n', '"two"\n'])
    (tmp_path / "00000.jsonl").write_bytes(damage)
    with pytest.raises(Failure, match=how) as caught:
        list(in_order(tmp_path, [np.asarray([0, 2, 1])]))
    assert caught.value.code == "R411" and f"rm {tmp_path / '00000.jsonl'}" in caught.value.hint
