"""A local data file -> its rows, one by one, and what cannot be read of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..diagnostics.diagnostic import listed, quoted
from ..diagnostics.record import record

MOST_LINE_BYTES = 64 << 20  # more is no row: often a file of another kind
_DELIMITERS = {",": "commas", "\t": "tabs", ";": "`;`", "|": "`|`"}


class UnreadableFile(Exception):
    """A file of which no more rows can be had: message and hint."""


@record
class UnreadableRow:
    """What stands for a row that cannot be read. Rows of one `problem` are of a kind; `detail` is what is
    special about this one. `to_show`: a row as it should be helps, and follows the hint."""

    problem: str
    detail: str
    hint: str
    to_show: bool = False


def records(file: Path) -> Iterator[tuple[int, Any]]:
    """(number, row) of a data file, lazily; `UnreadableRow` where there is none. Raises `UnreadableFile`."""
    try:
        if file.suffix.lower() in (".csv", ".tsv"):
            yield from _table(file, tabs=file.suffix.lower() == ".tsv")
        elif file.suffix.lower() == ".json":
            rows = _json(file.read_bytes())
            if isinstance(rows, UnreadableRow):
                raise UnreadableFile(f": {rows.problem}{rows.detail}", rows.hint)
            if not isinstance(rows, list):
                raise UnreadableFile(" does not contain a list of rows", "one object per line: use the suffix .jsonl")
            yield from enumerate(rows, 1)
        else:
            for number, line in _lines(file):
                if line.strip():
                    yield number, _json(line)
    except OSError as error:
        raise UnreadableFile(f" cannot be read: {error.strerror}", "check its permissions") from error


def even_sample(file: Path, most: int) -> tuple[int, list[Any]]:
    """(how many rows a data file has, `most` of them or fewer, evenly spread over it). Raises `UnreadableFile`."""
    by_lines = file.suffix.lower() in (".jsonl", ".ndjson")
    rows = (line for _, line in _lines(file) if line.strip()) if by_lines else (row for _, row in records(file))
    kept: list[Any] = []
    number, every = 0, 1
    try:
        for number, row in enumerate(rows, 1):
            if (number - 1) % every == 0:
                if len(kept) == most:
                    kept, every = kept[::2], 2 * every
                    if (number - 1) % every:
                        continue
                kept.append(row)
    except OSError as error:
        raise UnreadableFile(f" cannot be read: {error.strerror}", "check its permissions") from error
    return number, [_json(row) for row in kept] if by_lines else kept


def cell(row: Mapping[str, Any], column: str) -> Any:
    """A column, or a dotted path into nested ones (`translation.en`); None: it is not there, or is null."""
    return find_cell(row, column)[1]


def find_cell(row: Mapping[str, Any], column: str) -> tuple[bool, Any]:
    """(is it there, its value)."""
    if column in row:
        return True, row[column]
    value: Any = row
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Only a line feed ends a line: a text may hold U+2028."""
    number = 0
    with file.open("rb") as stream:
        while line := stream.readline(MOST_LINE_BYTES + 1):
            number += 1
            if len(line) > MOST_LINE_BYTES:
                raise UnreadableFile(
                    f", row {number}: a line of more than {MOST_LINE_BYTES >> 20} MiB", "is it the right file?"
                )
            yield number, line


def _json(content: bytes) -> Any:
    doubled: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            doubled.append(next(name for name in found if names.count(name) > 1))
        return found

    try:
        value = json.loads(content.decode("utf-8-sig"), object_pairs_hook=unique)
    except UnicodeDecodeError as error:
        return UnreadableRow("not UTF-8 ", f"(byte 0x{error.object[error.start]:02x})", "save it as UTF-8")
    except (ValueError, RecursionError):
        return UnreadableRow(
            "not JSON: ",
            quoted(content[:40].decode("utf-8", "replace").strip()),
            "a .jsonl file has one JSON object a line",
            to_show=True,
        )
    if doubled:
        return UnreadableRow(
            "a duplicate key in one object: ", quoted(doubled[0]), "keep one of the two values"
        )
    return value


def _table(file: Path, *, tabs: bool) -> Iterator[tuple[int, Any]]:
    """The cells of each row, by the names in the first line. In a table with `tabs` a quote is a letter like any
    other, and no cell has a tab or a line break."""
    rows = _tsv_cells(file) if tabs else _csv_cells(file)
    columns = next(rows, None)
    if columns is None:
        return
    twice = [name for name in dict.fromkeys(columns) if name and columns.count(name) > 1]
    if twice:
        raise UnreadableFile(
            f": its first line names {listed(map(quoted, twice), 'and')} more than once",
            "give each column its own name",
        )
    for number, cells in enumerate(rows, 1):
        if len(cells) == len(columns):
            yield number, dict(zip(columns, cells, strict=True))
            continue
        short = len(cells) < len(columns)
        hint = "complete it, or delete it" if short else _IN_QUOTES
        yield (
            number,
            UnreadableRow(
                f"the row is too {'short' if short else 'long'}: ",
                f"{len(cells)} cell{'s' if len(cells) > 1 else ''}, and the first line names {len(columns)}",
                _NO_QUOTING if tabs else hint,
            ),
        )


_IN_QUOTES = "put a cell that holds the separator or a line break into double quotes"
_NO_QUOTING = "a .tsv has no quoting: no cell may hold a tab or a line break; write such texts as .jsonl or .csv"


def _csv_cells(file: Path) -> Iterator[list[str]]:
    import csv

    # A document is longer than the 128 KiB that csv takes for a cell.
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(_text_lines(file, ","), strict=True)
    try:
        yield from filter(None, reader)
    except csv.Error as error:
        raise UnreadableFile(
            f", line {reader.line_num}: not a table: {error}", "double a quotation mark inside a quoted cell"
        ) from error


def _tsv_cells(file: Path) -> Iterator[list[str]]:
    for line in _text_lines(file, "\t"):
        if row := line.rstrip("\r\n"):
            yield row.split("\t")


def _text_lines(file: Path, delimiter: str) -> Iterator[str]:
    for number, line in _lines(file):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UnreadableFile(
                f", line {number}: not UTF-8 (byte 0x{line[error.start]:02x})", "save it as UTF-8"
            ) from error
        if number == 1 and delimiter not in text:
            for other in _DELIMITERS:
                if other in text:
                    raise UnreadableFile(
                        f" appears to be separated by {_DELIMITERS[other]}",
                        "a .csv is separated by commas, a .tsv by tabs",
                    )
        yield text
