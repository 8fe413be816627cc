"""`check --data`: files of predictions of other systems, read and held against the rows of the test sets."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from os.path import isfile
from pathlib import Path, PurePath
from typing import Any

from ..diagnostics.diagnostic import Reporter, Trail, shown_path
from ..diagnostics.record import record
from ..resolve.data_files import UnreadableFile, records
from ..spec.experiment import Baseline, Experiment
from ..spec.file_kinds import BASELINE_KINDS
from ..spec.ways import baseline_path
from .data_faults import Faults
from .row_check import Layout, RowCheck

TEXTS = ("prediction", "predictions", "hypothesis", "text")  # what the column of texts is usually called


@record
class Tested:
    """The rows of a test set that are evaluated. `ids`: where each is, None where they are not known; `count`: None
    where it is not known; `numbered`: the rows have no ids of their own; `whole`: are these all rows of the set?"""

    ids: Mapping[str, tuple[str, int]] | None
    count: int | None
    numbered: bool = False
    whole: bool = True

    def first(self, limit: int | None) -> Tested:
        """The first rows of these (None: all). Whether they are fewer than all is known only with their number."""
        if limit is None or (self.count is not None and self.count <= limit):
            return self
        ids = None if self.ids is None else dict(islice(self.ids.items(), limit))
        return Tested(ids, None if self.count is None else limit, self.numbered, whole=False)


def check_baseline_files(run: Experiment, reporter: Reporter, tested: Mapping[str, Tested]) -> None:
    """`check --data`: open the files of predictions, and hold their rows against those of the test sets."""
    for name, baseline in run.baselines.items():
        for test_set, place in baseline.predictions.items():
            if test_set in tested and isfile(place) and PurePath(place).suffix.lower() in BASELINE_KINDS:
                _check_file(Path(place), baseline_path(run, name, test_set), name, baseline, tested[test_set], reporter)


def _check_file(
    file: Path,
    path: Trail,
    name: str,
    baseline: Baseline,
    tested: Tested,
    reporter: Reporter,
) -> None:
    if file.suffix.lower() == ".txt":
        with file.open("rb") as lines:
            _check_count(file, path, sum(1 for _ in lines), tested, reporter)
        return
    columns = _columns(file, baseline)
    seen: dict[str, tuple[str, int]] = {}
    faults = Faults()
    check = RowCheck(file, path, Layout(columns, ("baselines", name, "columns")), reporter, faults, seen)
    number = check.read(None)
    if number == 0:
        reporter.error("E424", path, f"no rows in {shown_path(file)}", "is it the right file?")
    elif "id" not in columns or tested.numbered:
        if check.unreadable == 0 and file.suffix.lower() != ".parquet":
            _check_count(file, path, number, tested, reporter)
    elif check.complete and tested.ids is not None:
        _check_ids(file, path, check, tested, tested.ids, reporter)
    faults.tell(reporter)


def _check_ids(
    file: Path,
    path: Trail,
    check: RowCheck,
    tested: Tested,
    known: Mapping[str, tuple[str, int]],
    reporter: Reporter,
) -> None:
    """Has every row that is evaluated a prediction and, where these are all rows, every prediction its row?"""
    if tested.whole:
        check.refuse_unknown(known, "the test set", "predictions are aligned with the test set")
    missing = [id for id in known if id not in check.seen]
    if missing:
        where, row = known[missing[0]]
        reporter.error(
            "E427",
            path,
            f"{len(missing):,} of {len(known):,} test rows have no prediction in {shown_path(file)}, the first: "
            f"{where}, row {row}",
            "a baseline is compared on all rows or not at all",
        )


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


def _check_count(file: Path, path: Trail, number: int, tested: Tested, reporter: Reporter) -> None:
    """Row by row: as many as there are or, where only the first rows are evaluated, as many as these at least."""
    count = tested.count
    if count is None or number == count or (number > count and not tested.whole):
        return
    rows = f"the test set has {count:,}" if tested.whole else f"the first {count:,} rows of the test set are evaluated"
    reporter.error(
        "E427",
        path,
        f"{shown_path(file)} has {number:,} rows, {rows}",
        "without ids, rows are compared by position: use the same rows, or give every row of both files an id",
    )
