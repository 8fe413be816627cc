"""`check --data`: files of predictions of other systems, read and held against the rows of the test sets."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from ..diagnostics import Reporter, Trail, shown_path
from ..experiment import Baseline, Experiment
from ..rules.baselines import KINDS, file_path
from .data_faults import Faults
from .data_files import UnreadableFile, records
from .row_check import Layout, RowCheck

TEXTS = ("prediction", "predictions", "hypothesis", "text")  # what the column of texts is usually called

# The ids of the rows of a test set and where each is (None: not known), and their number (None: not known).
Tested = tuple[Mapping[str, tuple[str, int]] | None, int | None]


def check_baseline_files(run: Experiment, reporter: Reporter, tested: Mapping[str, Tested]) -> None:
    """`check --data`: open the files of predictions, and hold their rows against those of the test sets."""
    for name, baseline in run.baselines.items():
        for test_set, place in baseline.predictions.items():
            if test_set in tested and Path(place).is_file() and PurePath(place).suffix.lower() in KINDS:
                _check_file(Path(place), file_path(run, name, test_set), name, baseline, tested[test_set], reporter)


def _check_file(
    file: Path,
    path: Trail,
    name: str,
    baseline: Baseline,
    tested: Tested,
    reporter: Reporter,
) -> None:
    known, count = tested
    if file.suffix.lower() == ".txt":
        with file.open("rb") as lines:
            _check_count(file, path, sum(1 for _ in lines), count, reporter)
        return
    columns = _columns(file, baseline)
    seen: dict[str, tuple[str, int]] = {}
    faults = Faults()
    check = RowCheck(file, path, Layout(columns, ("baselines", name, "columns")), reporter, faults, seen)
    number = check.read(None)
    if number == 0:
        reporter.error("E424", path, f"no rows in {shown_path(file)}", "is it the right file?")
    elif "id" not in columns or known is None:
        if check.unreadable == 0 and file.suffix.lower() != ".parquet" and "id" not in columns:
            _check_count(file, path, number, count, reporter)
    elif check.complete:
        check.refuse_unknown(known, "the test set", "predictions are aligned with the test set")
        missing = [id for id in known if id not in seen]
        if missing:
            where, row = known[missing[0]]
            reporter.error(
                "E427",
                path,
                f"{len(missing):,} of {len(known):,} test rows have no prediction in {shown_path(file)}, the first: "
                f"{where}, row {row}",
                "a system is compared on all of the rows or not at all",
            )
    faults.tell(reporter)


def _columns(file: Path, baseline: Baseline) -> dict[str, str]:
    """The columns of a file: those that the spec names, else those of the usual names that its first row has."""
    first: Any = {}
    if file.suffix.lower() != ".parquet":
        try:
            first = next((row for _, row in islice(records(file), 1)), {})
        except UnreadableFile:
            first = {}
    there = list(first) if isinstance(first, Mapping) else []
    columns = {"id": baseline.id} if baseline.id else {"id": "id"} if "id" in there else {}
    usual = next((column for column in TEXTS if column in there), None)
    others = [column for column in there if column != columns.get("id")]
    return {**columns, "text": baseline.text or usual or (others[0] if len(others) == 1 else TEXTS[0])}


def _check_count(file: Path, path: Trail, number: int, count: int | None, reporter: Reporter) -> None:
    if count is not None and number != count:
        reporter.error(
            "E427",
            path,
            f"{shown_path(file)} has {number:,} rows, the test set has {count:,}",
            "without ids they are compared row by row: give it the same rows, or an id to every row of both",
        )
