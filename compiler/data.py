"""`check --data`: the local data files of a run, opened and read (E42x, W42x).

What is reported names the file and the row in the message, and points at the file's name in the spec. Rows
are counted from 1; in a file of JSON lines they are its lines.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from .diagnostics import Reporter, Trail, did_you_mean, listed, quoted, shown_path
from .experiment import DataSource, Experiment
from .rules.ways import data_sources

CUT_SHARE = 0.05  # of the rows; more than that cut is worth a word
ROLES = ("source", "hypothesis", "target", "id")


class UnreadableFile(Exception):
    """A file of which no more rows can be had: message and hint."""


def check_data(run: Experiment, reporter: Reporter) -> None:
    """Open every local data file of a run: are its rows what the spec says they are?"""
    seen: dict[Trail, dict[str, str]] = {}
    for path, source in data_sources(run.data):
        if source.files is None or not all(Path(name).is_file() for name in source.files):
            continue
        count = 0
        for i, name in enumerate(source.files):
            left = None if source.limit is None else source.limit - count
            if left == 0:
                break
            # Ids are unique in a split, whatever the number of its sources.
            file = FileCheck(run, Path(name), (*path, "files", i), reporter, seen.setdefault(path[:-1], {}))
            count += file.read(left)
        if count == 0:
            reporter.error("E424", (*path, "files"), f"no rows in {_named(source)}", "is it the right file?")


def num_bytes(run: Experiment) -> int:
    """The size of all local data files of a run; what is not there counts nothing."""
    files = [Path(name) for _, source in data_sources(run.data) for name in source.files or ()]
    return sum(file.stat().st_size for file in files if file.is_file())


def _named(source: DataSource) -> str:
    return listed((shown_path(Path(name)) for name in source.files or ()), "and")


class FileCheck:
    """One pass over one file. `seen`: the ids of its split so far, and where each was."""

    def __init__(self, run: Experiment, file: Path, path: Trail, reporter: Reporter, seen: dict[str, str]) -> None:
        self.file = file
        self.name = shown_path(file)
        self.path = path
        self.reporter = reporter
        self.seen = seen
        columns = run.data.columns
        self.wanted = {role: column for role in ROLES if (column := getattr(columns, role))}
        self.classifies = run.task == "classification"
        self.labels = run.data.labels
        self.limits = {"source": run.data.max_source_tokens}
        if not self.classifies:
            self.limits["target"] = run.data.max_target_tokens
        self.empty: dict[str, list[int]] = {}
        self.words: dict[str, list[int]] = {role: [] for role in self.limits}
        self.twice: list[str] = []

    def read(self, limit: int | None) -> int:
        """Check the first `limit` rows (None: all). Returns how many there were, the last one included when
        it could not be read."""
        if self.file.suffix.lower() == ".parquet":
            self.reporter.warning(
                "W422", self.path, f"{self.name} was not opened: parquet needs libraries that `check` does without"
            )
            return 1
        count = 0
        try:
            for number, row in islice(records(self.file), limit):
                count += 1
                if not self._row(number, row):
                    return count
        except UnreadableFile as error:
            message, hint = error.args
            self._error("E421", f"{self.name}{message}", hint)
            return count + 1
        self._tell()
        return count

    def _row(self, number: int, row: Any) -> bool:
        """Look at a row; False: the others are certainly like it, there is no need to go on."""
        if not isinstance(row, Mapping):
            self._error(
                "E421", f"{self.name}, row {number}: no JSON object, but {quoted(row)}", "write {...} for each row"
            )
            return False
        for role, column in self.wanted.items():
            value = cell(row, column)
            label = role == "target" and self.classifies
            if not isinstance(value, (str, int) if role == "id" or label else (str,)):
                self._no_column(number, row, role, column, value)
                return False
            if label and not self._label(number, value):
                return False
            text = str(value)
            if not text.strip():
                self.empty.setdefault(role, []).append(number)
            if role != "id":
                if role in self.words:
                    self.words[role].append(len(text.split()))
            elif text in self.seen:
                self.twice.append(f"{self.name}, row {number}: the id {quoted(text)} was in {self.seen[text]} already")
            else:
                self.seen[text] = f"{self.name}, row {number},"
        return True

    def _label(self, number: int, value: str | int) -> bool:
        """Is it one of `data.labels`, by name or by number? Without these anything may be."""
        if self.labels is None or value in self.labels:
            return True
        if isinstance(value, int) and 0 <= value < len(self.labels):
            return True
        near = did_you_mean(str(value), self.labels)
        self.reporter.error(
            "E426",
            ("data", "labels"),
            f"{self.name}, row {number}: the label {quoted(value)} is not one of {listed(self.labels, 'and')}",
            f"did you mean {near}?" if near else f"add it, or write numbers from 0 to {len(self.labels) - 1}",
        )
        return False

    def _no_column(self, number: int, row: Mapping[str, Any], role: str, column: str, value: Any) -> None:
        near = did_you_mean(column, map(str, row))
        hint = f"did you mean `columns: {{{role}: {near}}}`?" if near else f"name it: `columns: {{{role}: ...}}`"
        if value is None:
            message = f"there is no column {quoted(column)}, there is {listed(map(quoted, row), 'and')}"
        else:
            message, hint = f"{quoted(column)} is no text, but {quoted(value)}", "name a column of text"
        self.reporter.error("E422", ("data", "columns", role), f"{self.name}, row {number}: {message}", hint)

    def _tell(self) -> None:
        for role, rows in self.empty.items():
            more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
            self._error(
                "E423",
                f"{self.name}: the {role} is empty in row{'s' if len(rows) > 1 else ''} "
                f"{', '.join(map(str, rows[:3]))}{more}",
                "delete these rows, or fill them in",
            )
        if self.twice:
            more = f" (and {len(self.twice) - 1} more of the kind)" if len(self.twice) > 1 else ""
            self._error("E425", self.twice[0] + more, "ids are unique; without `columns.id` the rows are counted")
        for role, lengths in self.words.items():
            # Never more words than tokens: such a row is cut for certain.
            number = sum(length > self.limits[role] for length in lengths)
            if lengths and number / len(lengths) > CUT_SHARE:
                most = sorted(lengths)[int((1 - CUT_SHARE) * (len(lengths) - 1))]
                self.reporter.warning(
                    "W421",
                    self.path,
                    f"{self.name}: {100 * number / len(lengths):.0f} % of the {role}s have more words than "
                    f"max_{role}_tokens {self.limits[role]}, and are cut",
                    f"95 % have at most {most} words, and more tokens than words: raise max_{role}_tokens, if the "
                    "model has positions for it",
                )

    def _error(self, code: str, message: str, hint: str) -> None:
        self.reporter.error(code, self.path, message, hint)


def cell(row: Mapping[str, Any], column: str) -> Any:
    """A column, or a dotted path into nested ones (`translation.en`); None: it is not there."""
    if column in row:
        return row[column]
    value: Any = row
    for part in column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def records(file: Path) -> Iterator[tuple[int, Any]]:
    """(number, row) of a data file, lazily. Raises `UnreadableFile`."""
    try:
        if file.suffix.lower() in (".csv", ".tsv"):
            yield from _table(file)
        elif file.suffix.lower() == ".json":
            rows = _json(file.read_bytes(), ", row 1")
            if not isinstance(rows, list):
                raise UnreadableFile(" holds no list of rows", "one object a line is called .jsonl")
            yield from enumerate(rows, 1)
        else:
            with file.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    if line.strip():
                        yield number, _json(line, f", row {number}")
    except OSError as error:
        raise UnreadableFile(f" cannot be read: {error.strerror}", "check its permissions") from error


def _json(content: bytes, where: str) -> Any:
    try:
        return json.loads(_text(content, where))
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(
            f"{where}: not JSON: {quoted(content[:40].decode('utf-8', 'replace').strip())}",
            'a .jsonl file has one JSON object a line: {"source": "...", "target": "..."}',
        ) from error


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"{where}: not UTF-8 (byte 0x{content[error.start]:02x})", "save it as UTF-8") from error


def _table(file: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    text = _text(file.read_bytes(), "")
    try:
        for number, row in enumerate(csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter), 1):
            yield number, {str(name): value for name, value in row.items()}
    except csv.Error as error:
        raise UnreadableFile(f" is no table: {error}", "is it complete?") from error
