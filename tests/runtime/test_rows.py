"""Token rows come back from the disk as they were written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from distilc.runtime.data.rows import Rows, split_names, write_rows
from distilc.runtime.failure import Failure

ROWS = [
    ([5, 6, 7, 1], [9, 1], {"id": "a", "source": "eins zwei\u2028drei", "target": "Straße"}),
    ([8, 1], [4, 4, 4, 1], {"id": "b", "source": "four", "target": "fünf \n sechs"}),
    ([1], [1], {"id": "c", "source": ".", "target": "."}),
]


def test_round_trip(tmp_path: Path) -> None:
    write_rows(tmp_path, "train", iter(ROWS))
    rows = Rows.open(tmp_path, "train")
    assert rows.num_examples == len(rows) == 3
    assert rows.source_lengths.tolist() == [4, 2, 1] and rows.target_lengths.tolist() == [2, 4, 1]
    for i in (2, 0, 1):
        source, target, record = ROWS[i]
        assert rows.source(i).tolist() == source and rows.source(i).dtype == np.int32
        assert rows.target(i).tolist() == target
        assert rows.raw(i) == record


def test_the_files_are_plain(tmp_path: Path) -> None:
    """Anything that reads .npy and JSON lines reads an artifact; the mapped arrays are not copies."""
    write_rows(tmp_path, "test.news", iter(ROWS))
    assert np.load(tmp_path / "test.news.target.npy").tolist() == [9, 1, 4, 4, 4, 1, 1]
    assert np.load(tmp_path / "test.news.target_offsets.npy").tolist() == [0, 2, 6, 7]
    lines = (tmp_path / "test.news.jsonl").read_text("utf-8").split("\n")
    assert [json.loads(line)["id"] for line in lines if line] == ["a", "b", "c"]
    view = Rows.open(tmp_path, "test.news").source(0)
    assert isinstance(view.base, np.memmap) or isinstance(view, np.memmap)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name, "train", iter(ROWS))
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()


def test_a_long_split_has_the_header_of_a_short_one(tmp_path: Path) -> None:
    write_rows(tmp_path, "train", (([i % 7] * 10, [1], {"id": str(i), "source": "s", "target": "t"}) for i in range(2000)))
    rows = Rows.open(tmp_path, "train")
    assert rows.source(1999).tolist() == [1999 % 7] * 10
    assert rows.raw(1234)["id"] == "1234"


def test_split_names_are_in_order(tmp_path: Path) -> None:
    for split in ("test.b", "validation", "train", "test.a"):
        write_rows(tmp_path, split, iter(ROWS))
    assert split_names(tmp_path) == ["train", "validation", "test.a", "test.b"]


def test_missing_rows_are_a_diagnosis(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        Rows.open(tmp_path, "train")
    assert caught.value.code == "R231"
