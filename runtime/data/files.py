"""One data file -> its records, read as a stream: .jsonl, .json, .csv, .tsv, .parquet; .txt where lines are asked for.

A record is what a row of the file holds, with a name for diagnoses: file and line where the format has lines,
else file and row (counted from 1).
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..failure import Failure
from ..files.regular_file import open_regular

Records = Iterator[tuple[str, Any]]

LINES = ".txt"
UNPACK = {".gz": "gunzip -k", ".bz2": "bunzip2 -k", ".xz": "unxz -k", ".zst": "unzstd", ".zip": "unzip"}


def read_file(path: Path, fingerprint: str | None, spec_path: str | None, *, lines: bool = False) -> Records:
    """(where, record) of each row. `fingerprint` is the sha256 that the file must have; None: any. `lines`: a .txt file
    is read as well, and its records are its lines, without their ends.

    Raises `Failure` R201 (cannot be read, or of a kind that is not read), R202 (not the text it should be),
    R206 (another content than when the plan was compiled).
    """
    suffix = path.suffix.lower()
    reader = _numbered_lines if lines and suffix == LINES else _READERS.get(suffix)
    if reader is None:
        raise _not_read(path, (LINES, *SUFFIXES) if lines else SUFFIXES, spec_path)
    try:
        if fingerprint is not None:
            _check_content(path, fingerprint, spec_path)
        yield from reader(path, spec_path)
    except OSError as error:
        raise Failure(
            "R201",
            f"cannot read {path}: {error.strerror or error}",
            "is it there, and may you read it?",
            spec_path=spec_path,
        ) from error


def _not_read(path: Path, suffixes: Sequence[str], spec_path: str | None) -> Failure:
    """The diagnosis of a file of a kind that is none of these."""
    kind = f"of kind {path.suffix}" if path.suffix else "without a suffix"
    hint = f"use {', '.join(suffixes[:-1])} or {suffixes[-1]}"
    if path.suffix.lower() in UNPACK:
        hint = f"unpack it: {UNPACK[path.suffix.lower()]} {path.name}"
    return Failure("R201", f"{path}: files {kind} are not read", hint, spec_path=spec_path)


def located(fingerprint: str, locations: Mapping[str, str], what: str, spec_path: str | None) -> Path:
    """Where the file of this sha256 is on this machine. `what` it is, for people ("the file of labels").

    Raises `Failure` R206: the plan does not say it.
    """
    if fingerprint not in locations:
        raise Failure(
            "R206",
            f"the plan does not say where {what} is on this machine ({fingerprint[:12]})",
            "compile the spec again here",
            spec_path=spec_path,
        )
    return Path(locations[fingerprint])


def _check_content(path: Path, fingerprint: str, spec_path: str | None) -> None:
    """Raises `Failure` R206: the file has another sha256."""
    with open_regular(path) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != fingerprint:
        raise Failure(
            "R206",
            f"{path} is not what it was when the plan was compiled",
            "compile the spec again",
            spec_path=spec_path,
        )


def _text_lines(path: Path, spec_path: str | None) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends; only a line feed ends one (a text may hold U+2028)."""
    position = 0
    with open_regular(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise Failure(
                    "R202",
                    f"{path}:{number}: not UTF-8: byte 0x{line[error.start]:02x} at offset {position + error.start}",
                    f"convert it: iconv -f LATIN1 -t UTF-8 {path.name} > {path.stem}-utf8{path.suffix}",
                    spec_path=spec_path,
                ) from error
            position += len(line)


def _numbered_lines(path: Path, spec_path: str | None) -> Records:
    for number, line in enumerate(_text_lines(path, spec_path), start=1):
        yield f"{path}:{number}", line.rstrip("\r\n")


def _json_lines(path: Path, spec_path: str | None) -> Records:
    for number, line in enumerate(_text_lines(path, spec_path), start=1):
        if line.strip():
            yield f"{path}:{number}", _json(line, f"{path}:{number}", spec_path)


def _json_list(path: Path, spec_path: str | None) -> Records:
    records = _json("".join(_text_lines(path, spec_path)), str(path), spec_path)
    if not isinstance(records, list):
        raise Failure(
            "R202",
            f"{path} must hold a list of objects",
            "or write one object a line, and name the file .jsonl",
            spec_path=spec_path,
        )
    for number, record in enumerate(records, start=1):
        yield f"{path} row {number}", record


def _json(text: str, where: str, spec_path: str | None) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Failure(
            "R202",
            f"{where}: not JSON: {error}",
            "one JSON object a line (.jsonl), or a list of them (.json)",
            spec_path=spec_path,
        ) from error


Lines = Iterator[tuple[int, list[str]]]  # the cells of each row that is not empty, and the line where it ends


def _table(read_cells: Callable[[Path, str | None], Lines], hint: str) -> Callable[[Path, str | None], Records]:
    """A table with the names of its columns in the first line. `hint`: for a row of another number of cells."""

    def read(path: Path, spec_path: str | None) -> Records:
        columns: list[str] | None = None
        for number, cells in read_cells(path, spec_path):
            if columns is None:
                columns = cells
                continue
            if len(cells) != len(columns):
                raise Failure(
                    "R202",
                    f"{path}:{number}: {len(cells)} cells in a table of {len(columns)} columns",
                    hint,
                    spec_path=spec_path,
                )
            yield f"{path}:{number}", dict(zip(columns, cells, strict=True))

    return read


def _csv_cells(path: Path, spec_path: str | None) -> Lines:
    csv.field_size_limit(sys.maxsize)  # a document is longer than the 128 KiB that csv takes for a field
    reader = csv.reader(_text_lines(path, spec_path), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise Failure(
            "R202",
            f"{path}:{reader.line_num}: {error}",
            "write quotes inside a quoted cell twice",
            spec_path=spec_path,
        ) from error


def _tsv_cells(path: Path, spec_path: str | None) -> Lines:
    """Tabs separate the cells, whatever else is in them: a quote is a letter like any other."""
    for number, line in enumerate(_text_lines(path, spec_path), start=1):
        if row := line.rstrip("\r\n"):
            yield number, row.split("\t")


def _parquet(path: Path, spec_path: str | None) -> Records:
    import pyarrow
    import pyarrow.parquet

    number = 0
    open_regular(path).close()  # pyarrow would wait for a pipe
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{path} row {number}", record
    except pyarrow.ArrowException as error:
        raise Failure(
            "R202",
            f"cannot read {path} as Parquet: {str(error).splitlines()[0]}",
            "is the file complete?",
            spec_path=spec_path,
        ) from error


_READERS: dict[str, Callable[[Path, str | None], Records]] = {
    ".jsonl": _json_lines,
    ".json": _json_list,
    ".csv": _table(_csv_cells, "put a cell that holds the separator or a line break into double quotes"),
    ".tsv": _table(
        _tsv_cells, "a .tsv has no quoting: no cell may hold a tab or a line break; write such texts as .jsonl or .csv"
    ),
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}
SUFFIXES = tuple(_READERS)
