"""Faults of many rows, gathered and told once for each kind: "a.jsonl, rows 3, 5, 6 and 7 more: ..."."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass, field

from ..diagnostics.diagnostic import Reporter, Trail, listed

MOST_ROWS = 3  # that a message names
MOST_FILES = 4


@dataclass
class _Rows:
    """The rows of one file that have a fault: the first ones, and how many. A file that is read for several
    splits counts once (`reading`)."""

    reading: object
    first: list[int] = field(default_factory=list)
    count: int = 0

    def add(self, row: int) -> None:
        self.count += 1
        if len(self.first) < MOST_ROWS:
            self.first.append(row)

    def words(self, most: int = MOST_ROWS) -> str:
        shown = self.first[:most]
        rows = f"row{'s' if len(shown) > 1 else ''} "
        if self.count > len(shown):
            return f"{rows}{', '.join(map(str, shown))} and {self.count - len(shown):,} more"
        return rows + listed(map(str, shown), "and")


@dataclass
class _Fault:
    code: str
    path: Trail
    problem: str
    hint: str
    details: dict[str, None] = field(default_factory=dict)
    files: dict[str, _Rows] = field(default_factory=dict)

    def message(self) -> str:
        if len(self.files) == 1:
            ((name, rows),) = self.files.items()
            where = f"{name}, {rows.words()}"
        else:
            places = [f"{name}, {rows.words(1)}" for name, rows in self.files.items()]
            more = len(places) - MOST_FILES
            where = "; ".join(places[:MOST_FILES]) + (f"; and {more} more files" if more > 0 else "")
        details = list(self.details)[:MOST_ROWS] + ["..."] * (len(self.details) > MOST_ROWS)
        return f"{where}: {self.problem}{'; '.join(details)}"


def list_files(named: Collection[str]) -> str:
    """The first files, or what is said of each, and how many more there are."""
    more = len(named) - MOST_FILES
    return listed([*named][:MOST_FILES] + ([f"{more} more file{'s' if more > 1 else ''}"] if more > 0 else []), "and")


class Faults:
    """What is wrong with rows, until `tell` reports it. Rows of one code, path and kind are one diagnosis; what
    it says is what was said of the first."""

    def __init__(self) -> None:
        self._found: dict[Hashable, _Fault] = {}

    def add(
        self,
        code: str,
        path: Trail,
        kind: str,
        where: tuple[str, int, object],
        problem: str,
        hint: str,
        detail: str = "",
    ) -> None:
        """`where`: the file by name, the row, and the reading that came upon it. `problem` ends so that
        `detail`, what is special about the row, can follow."""
        name, row, reading = where
        fault = self._found.setdefault((code, path, kind), _Fault(code, path, problem, hint))
        rows = fault.files.setdefault(name, _Rows(reading))
        if rows.reading is not reading:
            return
        rows.add(row)
        if detail and len(fault.details) <= MOST_ROWS:
            fault.details[detail] = None

    def tell(self, reporter: Reporter) -> None:
        for fault in self._found.values():
            reporter.error(fault.code, fault.path, fault.message(), fault.hint)
