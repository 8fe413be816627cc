"""Reading data: every format gives the same rows, and every fault its place."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from distilc.runtime.data.bulletins import VERSION
from distilc.runtime.data.sources import read_sources
from distilc.runtime.failure import Failure
from distilc.runtime.plan.settings import Columns, Source

COLUMNS = Columns(source="document", hypothesis=None, target="summary", id="key")
ROWS = [
    {"key": "a", "document": "Der Fluß, so heißt es,\nstieg.", "summary": "Fluß steigt"},
    {"key": "b", "document": 'She said "no" \u2028 twice.', "summary": "Ședința s-a încheiat"},
    {"key": "c", "document": "x" * 200_000, "summary": "long"},
]
EXPECTED = [{"id": row["key"], "source": row["document"], "target": row["summary"]} for row in ROWS]


def source_of(*paths: Path, limit: int | None = None) -> tuple[Source, dict[str, str]]:
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    source = Source(
        kind="files", name=None, config=None, revision=None, split=None, fingerprints=tuple(hashes), limit=limit
    )
    return source, {sha: str(path) for sha, path in zip(hashes, paths, strict=True)}


def read(*paths: Path, columns: Columns = COLUMNS, limit: int | None = None) -> list[dict[str, str]]:
    source, locations = source_of(*paths, limit=limit)
    return list(read_sources([source], columns, "train", locations, offline=True))


def failure_of(path: Path, columns: Columns = COLUMNS) -> Failure:
    with pytest.raises(Failure) as caught:
        read(path, columns=columns)
    return caught.value


def write(path: Path, rows: list[dict[str, object]] | list[dict[str, str]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), "utf-8")
    elif path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    assert read(write(tmp_path / name, ROWS)) == EXPECTED


def test_quotes_of_a_tsv_are_letters(tmp_path: Path) -> None:
    """An opening quote does not run on over the rows below it, whatever stands in them."""
    path = tmp_path / "rows.tsv"
    cells = [("a", '"Dogs bark.', "„Câinii\u2028 latră.”"), ("b", 'He said "no".', '"'), ("c", '"A ""b"""', "x, y")]
    lines = ["key\tdocument\tsummary", *map("\t".join, cells)]
    path.write_text("\ufeff" + "\r\n".join(lines[:3]) + "\n\n" + lines[3], "utf-8", newline="")
    assert read(path) == [dict(zip(("id", "source", "target"), row, strict=True)) for row in cells]
    path.write_text("\n".join([*lines, "d\tone\ttwo\tthree"]), "utf-8")
    failure = failure_of(path)
    assert (failure.code, failure.message) == ("R202", f"{path}:5: 4 cells in a table of 3 columns")
    assert "no cell may hold a tab or a line break" in failure.hint and ".jsonl" in failure.hint


def test_files_follow_each_other_and_a_limit_counts_over_all(tmp_path: Path) -> None:
    first, second = write(tmp_path / "1.jsonl", ROWS[:2]), write(tmp_path / "2.json", ROWS[2:])
    assert read(first, second) == EXPECTED
    assert read(second, first, limit=2) == [EXPECTED[2], EXPECTED[0]]


def test_rows_without_ids_get_their_number(tmp_path: Path) -> None:
    columns = Columns(source="document", hypothesis=None, target="summary", id=None)
    assert [row["id"] for row in read(write(tmp_path / "r.jsonl", ROWS), columns=columns)] == [
        "train-0", "train-1", "train-2"
    ]  # fmt: skip


def test_nested_columns_and_numbers_as_ids(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"n": 7, "translation": {"en": "a house", "de": "ein Haus"}}]
    columns = Columns(source="translation.en", hypothesis=None, target="translation.de", id="n")
    assert read(write(tmp_path / "r.jsonl", rows), columns=columns) == [
        {"id": "7", "source": "a house", "target": "ein Haus"}
    ]


def test_the_builtin_corpus_keeps_its_own_columns() -> None:
    source = Source(
        kind="builtin", name="bulletins", config=None, revision=VERSION, split="test", fingerprints=(), limit=2
    )
    rows = list(read_sources([source], COLUMNS, "test", {}, offline=True))
    assert [row["id"] for row in rows] == ["bulletins-test-0", "bulletins-test-1"]
    for wrong in ({"revision": "0"}, {"name": "novels"}, {"split": "dev"}):
        with pytest.raises(Failure, match=r"version|corpus"):
            list(read_sources([replaced(source, wrong)], COLUMNS, "test", {}, offline=True))


def replaced(source: Source, change: Mapping[str, str]) -> Source:
    return Source(**{**vars(source), **change})


def test_not_utf8_names_line_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "latin.jsonl"
    path.write_bytes(json.dumps(ROWS[0]).encode() + b'\n{"key": "b", "document": "caf\xe9", "summary": "s"}\n')
    failure = failure_of(path)
    assert failure.code == "R202" and failure.spec_path == "data.train"
    assert f"{path}:2: not UTF-8: byte 0xe9 at offset {path.read_bytes().index(0xE9)}" in failure.message


@pytest.mark.parametrize("name", ["r.csv", "r.json"])
def test_not_utf8_in_other_formats(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"key,document,summary\na,caf\xe9,s\n")
    assert f"{name}:2: not UTF-8: byte 0xe9 at offset 26" in failure_of(tmp_path / name).message


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("r.jsonl", '{"key": "a", "document": "d", "summary": "s"}\n{"key": \n', "r.jsonl:2: not JSON"),
        ("r.jsonl", '["a", "b"]\n', "r.jsonl:1: a row must be an object with columns, not list"),
        ("r.jsonl", '{"key": "a", "document": "\\ud83d", "summary": "s"}\n', "half a character (\\ud83d)"),
        ("r.json", '{"key": "a"}', "must hold a list"),
        ("r.csv", 'key,document,summary\na,"d, s\n', "r.csv:2"),
        ("r.csv", "key,document,summary\na,d,s\nb,d\n", "r.csv:3: 2 cells in a table of 3 columns"),
        ("r.parquet", "PAR1", "cannot read"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    failure = failure_of(tmp_path / name)
    assert failure.code == "R202"
    assert said in failure.message


def test_missing_column(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", ROWS)
    failure = failure_of(path, Columns(source="documnet", hypothesis=None, target="summary", id="key"))
    assert failure.code == "R203" and failure.spec_path == "data.columns.source"
    assert "there is no column 'documnet'; the columns are key, document, summary" in failure.message
    assert failure.hint.startswith("did you mean 'document'?")


@pytest.mark.parametrize(
    ("value", "said"),
    [("", "is empty"), (" \n", "is empty"), (None, "is empty"), (3, "holds int, not text"), (["a"], "holds list, not text")],
)
def test_cells_that_are_no_text(tmp_path: Path, value: object, said: str) -> None:
    rows: list[dict[str, object]] = [dict(ROWS[0]), {**ROWS[1], "summary": value}]
    failure = failure_of(write(tmp_path / "r.jsonl", rows))
    assert failure.code == "R203" and failure.spec_path == "data.columns.target"
    assert f"r.jsonl:2 (id b): the column 'summary' {said}" in failure.message


def test_an_id_twice(tmp_path: Path) -> None:
    failure = failure_of(write(tmp_path / "r.jsonl", [*ROWS, ROWS[0]]))
    assert failure.code == "R205" and "r.jsonl:4" in failure.message and "'a'" in failure.message


@pytest.mark.parametrize("name", ["r.jsonl", "r.json", "r.csv"])
def test_no_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text({"r.json": "[]", "r.csv": "key,document,summary\n"}.get(name, "\n\n"), "utf-8")
    failure = failure_of(tmp_path / name)
    assert failure.code == "R204" and failure.spec_path == "data.train"


def test_files_that_are_gone_or_changed_or_of_another_kind(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", ROWS)
    source, locations = source_of(path)
    path.write_text(json.dumps(ROWS[0]), "utf-8")
    for place, code in ((str(path), "R206"), (str(tmp_path / "gone.jsonl"), "R201"), (str(tmp_path), "R201")):
        with pytest.raises(Failure) as caught:
            list(read_sources([source], COLUMNS, "test", dict.fromkeys(locations, place), offline=True))
        assert caught.value.code == code and caught.value.spec_path == "data.test"
    with pytest.raises(Failure, match="does not say where"):
        list(read_sources([source], COLUMNS, "test", {}, offline=True))


def test_an_unknown_hub_data_set_offline() -> None:
    source = Source(
        kind="hub", name="distilc-tests/no-such-set", config=None, revision="0" * 40, split="train", fingerprints=(), limit=None
    )  # fmt: skip
    with pytest.raises(Failure) as caught:
        list(read_sources([source], COLUMNS, "train", {}, offline=True))
    assert caught.value.code == "R201" and "offline" in caught.value.hint


def test_a_test_row_may_have_several_references(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"key": "a", "document": "x", "summary": ["one", "two"]}, {"key": "b", "document": "y", "summary": ["alone"]}
    ]  # fmt: skip
    path = write(tmp_path / "rows.jsonl", rows)
    source, locations = source_of(path)
    for split in ("validation", "test", "test.hard"):
        assert list(read_sources([source], COLUMNS, split, locations, offline=True)) == [
            {"id": "a", "source": "x", "target": "one", "references": ["one", "two"]},
            {"id": "b", "source": "y", "target": "alone"},
        ]
    failure = failure_of(path)
    assert failure.code == "R203" and "a training row has one target" in failure.hint
    empty = write(tmp_path / "empty.jsonl", [{"key": "a", "document": "x", "summary": ["one", " "]}])
    source, locations = source_of(empty)
    with pytest.raises(Failure, match="'summary' is empty"):
        list(read_sources([source], COLUMNS, "test", locations, offline=True))
