"""`check --data`: files whose rows belong to rows of the data. Labels made elsewhere, to the training rows; predictions
of other systems, to the rows of the test sets."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from os.path import isfile
from pathlib import Path, PurePath
from typing import Any

from ..diagnostics.diagnostic import Reporter, Trail, shown_path
from ..diagnostics.record import record
from ..resolve.data_files import UnreadableFile, records
from ..spec.experiment import Baseline, Experiment, Labeller
from ..spec.file_kinds import BASELINE_KINDS
from ..spec.ways import baseline_path
from .data_faults import Faults
from .row_check import Layout, RowCheck, tell_unopened

Ids = Mapping[str, tuple[str, int]]  # id -> the file and the row that has it

TEXTS = ("prediction", "predictions", "hypothesis", "text")  # what the column of texts is usually called


@record
class Rows:
    """The rows of the data that a file belongs to. `ids`: None where they are not known; `count`: None where it is not
    known; `numbered`: the rows have no ids of their own; `whole`: are these all rows of the set?"""

    ids: Ids | None
    count: int | None = None
    numbered: bool = False
    whole: bool = True

    def first(self, limit: int | None) -> Rows:
        """The first rows of these (None: all). Whether they are fewer than all is known only with their number."""
        if limit is None or (self.count is not None and self.count <= limit):
            return self
        ids = None if self.ids is None else dict(islice(self.ids.items(), limit))
        return Rows(ids, None if self.count is None else limit, self.numbered, whole=False)


def label_files(run: Experiment) -> dict[str, Labeller]:
    """The labellers of a run that are files and that `targets` names."""
    used = {name: run.pseudo_labels[name] for name in run.targets if name in run.pseudo_labels}
    return {name: labeller for name, labeller in used.items() if labeller.file is not None}


def check_label_files(run: Experiment, reporter: Reporter, trained: Rows) -> None:
    """Reports E427 (a label of no training row), W423 (a training row without a label), and what `_read` does."""
    for name, labeller in label_files(run).items():
        file = Path(labeller.file or "")
        if not isfile(file):
            continue
        path, faults = ("pseudo_labels", name, "file"), Faults()
        columns = {"id": labeller.file_id, "text": labeller.file_text}
        check, _ = _read(file, path, columns, reporter, faults)
        if check.complete and check.seen and trained.ids is not None:
            strange = check.seen.keys().isdisjoint(trained.ids)  # these are labels of something else
            if trained.whole or strange:
                check.refuse_unknown(trained.ids, "the training data", "labels are aligned with `data.train`")
            if not strange and (missing := _missing(check, trained.ids, "training rows have no label")):
                hint = "these rows are left out of the targets; add labels for them if that is not intended"
                reporter.warning("W423", path, missing, hint)
        faults.tell(reporter)


def check_baseline_files(run: Experiment, reporter: Reporter, tested: Mapping[str, Rows]) -> None:
    """Reports E427 (predictions of other rows than those of the test set), and what `_read` does."""
    for name, baseline in run.baselines.items():
        for test_set, place in baseline.predictions.items():
            if test_set in tested and isfile(place) and PurePath(place).suffix.lower() in BASELINE_KINDS:
                path = baseline_path(run, name, test_set)
                _check_baseline(Path(place), path, baseline, tested[test_set], reporter)


def _check_baseline(file: Path, path: Trail, baseline: Baseline, tested: Rows, reporter: Reporter) -> None:
    if file.suffix.lower() == ".txt":
        with file.open("rb") as lines:
            _check_count(file, path, sum(1 for _ in lines), tested, reporter)
        return
    faults, columns = Faults(), _columns(file, baseline)
    check, number = _read(file, path, columns, reporter, faults)
    if "id" not in columns or tested.numbered:
        if number and check.unreadable == 0 and check.opened:
            _check_count(file, path, number, tested, reporter)
    elif number and check.complete and tested.ids is not None:
        if tested.whole:
            check.refuse_unknown(tested.ids, "the test set", "predictions are aligned with the test set")
        if missing := _missing(check, tested.ids, "test rows have no prediction"):
            reporter.error("E427", path, missing, "a baseline is compared on all rows or not at all")
    faults.tell(reporter)


def _read(
    file: Path, path: Trail, columns: Mapping[str, str], reporter: Reporter, faults: Faults
) -> tuple[RowCheck, int]:
    """The rows of a file, checked, and their number. Reports E424 (no rows) and W422 (parquet), and what rows have
    wrong."""
    check = RowCheck(file, path, Layout(columns, (*path[:2], "columns")), reporter, faults, {})
    number = check.read(None)
    if number == 0:
        reporter.error("E424", path, f"no rows in {check.name}", "is it the right file?")
    tell_unopened([check], reporter)
    return check, number


def _missing(check: RowCheck, known: Ids, what: str) -> str:
    """The rows of the data that the file has nothing for, in words; "": it has something for each."""
    missing = [id for id in known if id not in check.seen]
    if not missing:
        return ""
    where, row = known[missing[0]]
    return f"{len(missing):,} of {len(known):,} {what} in {check.name}, the first: {where}, row {row}"


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


def _check_count(file: Path, path: Trail, number: int, tested: Rows, reporter: Reporter) -> None:
    """Row by row: as many as there are or, where only the first rows are evaluated, as many as these at least."""
    count = tested.count
    if count is None or number == count or (number > count and not tested.whole):
        return
    rows = f"the test set has {count:,}" if tested.whole else f"the first {count:,} rows of the test set are evaluated"
    hint = "without ids, rows are compared by position: use the same rows, or give every row of both files an id"
    reporter.error("E427", path, f"{shown_path(file)} has {number:,} rows, {rows}", hint)
