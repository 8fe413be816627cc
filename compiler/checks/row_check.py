"""One pass over one data file: are its rows what the spec says they are?

What is reported names the file and the row in the message, and points at the file's name or at the column in
the spec. Rows are counted from 1; in a file of JSON lines they are its lines.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ..diagnostics.diagnostic import Reporter, Trail, did_you_mean, listed, quoted, shown_path
from ..diagnostics.record import record
from ..resolve.data_files import UnreadableFile, UnreadableRow, find_cell, records
from ..spec.yaml_text import flow
from .data_faults import Faults, list_files
from .text_remarks import TextRemarks

CUT_SHARE = 0.05  # of the rows; more than that cut is worth a word
MOST_UNREADABLE = 1000  # rows; a file with more is not read to its end
MOST_NAMES = 12  # of columns that a message lists
MOST_TYPED = 100  # letters of a column that a hint spells out
TEXTS = ("source", "target", "text", "premise", "hypothesis")
NUMBERED = ("id", "label")  # these columns may hold whole numbers


@record
class Layout:
    """What the rows of a file hold. `columns`: key of the spec -> column, the keys standing at `path`;
    `labels`: the names that a label may have (None: any); `limits`: key -> (setting, tokens); `several`: a target may
    be a list of references; `numbers`: labels are numbers. `counted`: the number of a label stands for it, too; the
    model's own labels go by name alone."""

    columns: Mapping[str, str]
    path: Trail
    labels: tuple[str, ...] | None = None
    limits: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    several: bool = False
    numbers: bool = False
    counted: bool = True


class Cut(NamedTuple):
    """A file of which many texts are cut, `percent` of them; 95 % have at most `most` words."""

    name: str
    path: Trail
    percent: float
    most: int


class RowCheck:
    """`path` is that of the file's name. `seen`: the ids so far of what has to have unique ids, and where each
    was: this file's are added. After `read`, `complete` says whether every row could be read and has an id."""

    def __init__(
        self,
        file: Path,
        path: Trail,
        layout: Layout,
        reporter: Reporter,
        faults: Faults,
        seen: dict[str, tuple[str, int]],
        remarks: TextRemarks | None = None,
    ) -> None:
        self.file = file
        self.name = shown_path(file)
        self.path = path
        self.layout = layout
        self.reporter = reporter
        self.faults = faults
        self.seen = seen
        self.remarks = remarks
        self.complete = self.opened = True
        self.unreadable = 0
        self.words: dict[str, list[int]] = {key: [] for key in layout.limits}
        self.cut: dict[str, Cut] = {}  # key -> what of its texts is cut, where it is worth a word
        self.having: set[str] = set()  # the keys whose columns some row has
        self.lacking: dict[str, list[int]] = {}  # key -> the rows without its column
        self.unnamed: dict[str, tuple[str, str]] = {}  # key -> problem and hint, if no row has it
        self.classes: Counter[str] = Counter()  # of the rows that have a label

    def read(self, limit: int | None) -> int:
        """Check the first `limit` rows (None: all). Returns how many there were, the last one included when
        it could not be read."""
        if self.file.suffix.lower() == ".parquet":
            self.complete, self.opened = False, False
            return 1
        count = 0
        try:
            for number, row in islice(records(self.file), limit):
                count += 1
                self._row(number, row)
                if self.unreadable == MOST_UNREADABLE:
                    raise UnreadableFile(
                        f": {MOST_UNREADABLE:,} rows cannot be read, the rest was left out", "is it the right file?"
                    )
        except UnreadableFile as error:
            message, hint = error.args
            self.complete = False
            self.reporter.error("E421", self.path, f"{self.name}{message}", hint)
            self._tell_lacking()
            return count + 1
        self._tell_lacking()
        for key, lengths in self.words.items():
            # Never more words than tokens: such a row is cut for certain.
            share = sum(length > self.layout.limits[key][1] for length in lengths) / max(1, len(lengths))
            if share > CUT_SHARE:
                most = sorted(lengths)[int((1 - CUT_SHARE) * (len(lengths) - 1))]
                self.cut[key] = Cut(self.name, self.path, 100 * share, most)
        return count

    def _row(self, number: int, row: Any) -> None:
        if not isinstance(row, Mapping):
            self.complete = False
            self.unreadable += 1
            if not isinstance(row, UnreadableRow):
                row = UnreadableRow("not a JSON object: ", quoted(row), "write one object {...} per row")
            hint = f"{row.hint}: {self._example()}" if row.to_show else row.hint
            self._fault("E421", self.path, row.problem, number, row.problem, hint, row.detail)
            return
        for key, column in self.layout.columns.items():
            there, value = find_cell(row, column)
            if there:
                self.having.add(key)
            if key == "target" and self.layout.several and _are_texts(value):
                value = self._first_of(number, value)
            if key == "label" and self.layout.numbers and there and value is not None:
                self._number(number, column, value)
            elif isinstance(value, str) or (key in NUMBERED and type(value) is int):
                self._value(number, key, value)
            else:
                self.complete &= key != "id"
                self._no_text(number, row, key, column, value, there)

    def _first_of(self, number: int, references: list[str]) -> str:
        """The reference that stands for the row; of the others only an empty one is told."""
        if not all(map(str.strip, references[1:])):
            self._fault("E423", self.path, "reference", number, "a reference is empty", "delete it, or fill it in")
        return references[0]

    def _example(self) -> str:
        """A row with the columns that are wanted here."""
        return "{" + ", ".join(f'"{column}": "..."' for column in self.layout.columns.values()) + "}"

    def _value(self, number: int, key: str, value: str | int) -> None:
        text = str(value)
        if not text.strip():
            self._fault("E423", self.path, key, number, f"the {key} is empty", "delete these rows, or fill them in")
        elif not _is_unicode(text):
            self._fault(
                "E421",
                self.path,
                f"cut {key}",
                number,
                f"the {key} contains half of a character (a lone surrogate)",
                "a text was cut inside an escaped character: correct the row",
            )
        if key == "label":
            self._label(number, value)
        if key in self.words:
            self.words[key].append(len(text.split()))
        if self.remarks is not None and key in TEXTS:
            self.remarks.add(number, key, text)
        if key != "id":
            return
        if text in self.seen:
            name, row = self.seen[text]
            self._fault(
                "E425",
                self.path,
                "id",
                number,
                "duplicate id ",
                "ids have to be unique"
                + ("; without `columns.id` the rows are numbered" if self.layout.path[0] == "data" else ""),
                f"{quoted(text)}, first in {name}, row {row}",
            )
        else:
            self.seen[text] = self.name, number

    def _label(self, number: int, value: str | int) -> None:
        """Is it one of `data.labels`, by name in any case or by number (also of a CSV, as text)? Without these anything
        may be."""
        labels, text = self.layout.labels, str(value).strip()
        if labels is None or text.casefold() in (name.casefold() for name in labels):
            self.classes[text.casefold()] += 1
            return
        if text.isdecimal() and self.layout.counted and int(text) < len(labels):
            self.classes[labels[int(text)].casefold()] += 1
            return
        self.classes[text] += 1
        near = did_you_mean(str(value), labels)
        if self.layout.counted:
            path: Trail = ("data", "labels")
            whose, hint = "the labels", f"add it, or write numbers from 0 to {len(labels) - 1}"
        else:
            path, whose = self.path, "the teacher's labels"
            hint = "name all classes of the data, in the order in which it counts them: `data: {labels: [...]}`"
        problem = f"not one of {whose} {listed(labels, 'and')}: "
        self._fault("E426", path, "label", number, problem, f"did you mean {near}?" if near else hint, quoted(value))

    def _number(self, number: int, column: str, value: Any) -> None:
        """Is it a finite number, also of a CSV, as text?"""
        found = math.nan
        with suppress(ValueError, OverflowError):
            found = float(value) if type(value) in (int, float, str) else math.nan
        self.classes[str(found)] += 1
        if not math.isfinite(found):
            problem = f"{quoted(column)} is not a finite number: "
            hint = "correct these rows, or delete them; to predict names of classes: `task: classification`"
            self._fault("E429", self.path, "number", number, problem, hint, quoted(value))

    def _no_text(self, number: int, row: Mapping[str, Any], key: str, column: str, value: Any, there: bool) -> None:
        path: Trail = (*self.layout.path, key)
        if not there:
            # Is it the row, or the name of the column? The other rows say.
            self.lacking.setdefault(key, []).append(number)
            if key not in self.unnamed:
                problem = f"there is no column {quoted(column)}; the columns are {_names(row)}"
                self.unnamed[key] = problem, self._column_hint(key, column, row)
            return
        if value is None:
            path, kind, detail = self.path, f"null {key}", ""
            problem, hint = f"{quoted(column)} is null", "delete these rows, or fill them in"
        else:
            kind, problem, detail = "no text", f"{quoted(column)} is not a text: ", quoted(value)
            hint = "name a column of text"
            if key == "label":
                hint = "a label is a name or a whole number; to predict numbers: `task: regression`"
            if key == "target" and _are_texts(value):
                hint = "a training row has one target; lists of references are for validation and test"
        self._fault("E422", path, kind, number, problem, hint, detail)

    def refuse_unknown(self, known: Collection[str], owner: str, aligned: str) -> None:
        """Reports E427: ids of rows that were read and are none of the `known` ones of `owner`."""
        for id, (where, row) in self.seen.items():
            if id not in known:
                problem = f"not one of the {len(known):,} ids of {owner}: "
                hint = f"{aligned} by its column `data.columns.id`"
                self.faults.add("E427", self.path, "unknown", (where, row, self), problem, hint, quoted(id))

    def _tell_lacking(self) -> None:
        for key, rows in self.lacking.items():
            path, kind, (problem, hint) = (*self.layout.path, key), "missing", self.unnamed[key]
            if key in self.having:
                path, kind, hint = self.path, f"lacking {key}", "fill it in, or delete these rows"
                problem = f"no {quoted(self.layout.columns[key])} here; other rows have it"
            for number in rows:
                self._fault("E422", path, kind, number, problem, hint)

    def _column_hint(self, key: str, column: str, row: Mapping[str, Any]) -> str:
        if key == "text" and "label" in self.layout.columns and {"premise", "hypothesis"} <= set(row):
            return "did you mean `data: {columns: {premise: premise, hypothesis: hypothesis}}`?"
        free = [str(name) for name in row if name not in self.layout.columns.values()]
        near = did_you_mean(column, free)
        name = near or (free[0] if len(free) == 1 else "")
        typed = f"{key}: {flow(name)}" if name and _is_unicode(name) and len(name) <= MOST_TYPED else f"{key}: ..."
        for step in reversed(self.layout.path):
            typed = f"{step}: {{{typed}}}"
        uncounted = key == "id" and self.layout.path[0] == "data"
        without = "or remove `columns.id`: the rows are then numbered"
        if near:
            return f"did you mean `{typed}`?{f' {without}' if uncounted else ''}"
        return f"name it: `{typed}`{f', {without}' if uncounted else ''}"

    def _fault(self, code: str, path: Trail, kind: str, number: int, problem: str, hint: str, detail: str = "") -> None:
        self.faults.add(code, path, kind, (self.name, number, self), problem, hint, detail)


def tell_one_class(checks: Sequence[RowCheck], reporter: Reporter) -> None:
    """Reports E430: all rows that are trained on have one label."""
    trained = [check for check in checks if check.path[1] == "train"]
    classes = sum((check.classes for check in trained), Counter[str]())
    if len(classes) == 1 < classes.total() and all(check.complete and not check.lacking for check in trained):
        reporter.error(
            "E430",
            trained[0].path,
            f"all rows of {list_files([check.name for check in trained])} have the label {quoted(next(iter(classes)))}",
            "a model that is trained on them answers with it whatever it reads: name the right column, or more rows",
            because=[check.path for check in trained[1:]],
        )


def tell_unopened(checks: Sequence[RowCheck], reporter: Reporter) -> None:
    """Reports W422, once for all files of a kind that `check` does not read."""
    left = {check.name: check.path for check in checks if not check.opened}
    if left:
        names = list_files(left)
        message = f"{names} {'was' if len(left) == 1 else 'were'} not opened: `check` does not read parquet"
        paths = list(left.values())
        reporter.warning("W422", paths[0], message, because=paths)


def tell_cut(checks: Sequence[RowCheck], layout: Layout, reporter: Reporter) -> None:
    """Reports W421: texts of the files that were read are longer than the limit. Once for all of them."""
    for key, (setting, limit) in layout.limits.items():
        found = list(dict.fromkeys(check.cut[key] for check in checks if key in check.cut))
        if not found:
            continue
        shares = list_files([f"{one.name}: {one.percent:.0f} %" for one in found])
        reporter.warning(
            "W421",
            found[0].path,
            f"{shares} of the {key}s have more words than {setting} {limit}, and are cut",
            f"95 % have at most {max(one.most for one in found)} words, and more tokens than words: raise {setting}, "
            "if the model has positions for it",
            because=[one.path for one in found],
        )


def _names(row: Mapping[str, Any]) -> str:
    names = [quoted(name) for name in row]
    more = len(names) - MOST_NAMES
    return listed(names[:MOST_NAMES] + ([f"{more} more"] if more > 0 else []), "and")


def _are_texts(value: Any) -> bool:
    """Is it a list of texts, and not empty?"""
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def _is_unicode(text: str) -> bool:
    """Can it be written as UTF-8? (A JSON escape may name half a character.)"""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
