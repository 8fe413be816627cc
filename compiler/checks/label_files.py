"""`check --data`: files of labels made elsewhere, read and held against the ids of the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from os.path import isfile
from pathlib import Path

from ..diagnostics.diagnostic import Reporter, shown_path
from ..spec.experiment import Experiment, Labeller
from .data_faults import Faults
from .row_check import Layout, RowCheck


def label_files(run: Experiment) -> dict[str, Labeller]:
    """The labellers of a run that are files and that `targets` names."""
    used = {name: run.pseudo_labels[name] for name in run.targets if name in run.pseudo_labels}
    return {name: labeller for name, labeller in used.items() if labeller.file is not None}


def check_label_files(
    run: Experiment, reporter: Reporter, trained: Mapping[str, tuple[str, int]] | None, whole: bool
) -> None:
    """Open the files of labels. `trained`: the ids of the training rows, None when they are not known; `whole`:
    are these the rows of the training data without a limit?"""
    for name, labeller in label_files(run).items():
        file = Path(labeller.file or "")
        if not isfile(file):
            continue
        path = ("pseudo_labels", name)
        layout = Layout({"id": labeller.file_id, "text": labeller.file_text}, (*path, "columns"))
        labelled: dict[str, tuple[str, int]] = {}
        faults = Faults()
        check = RowCheck(file, (*path, "file"), layout, reporter, faults, labelled)
        if check.read(None) == 0:
            reporter.error("E424", (*path, "file"), f"no rows in {shown_path(file)}", "is it the right file?")
        elif check.complete and trained is not None:
            strange = labelled.keys().isdisjoint(trained)  # these are labels of something else
            if whole or strange:
                check.refuse_unknown(trained, "the training data", "labels are aligned with `data.train`")
            missing = [id for id in trained if id not in labelled]
            if missing and not strange:
                where, row = trained[missing[0]]
                reporter.warning(
                    "W423",
                    (*path, "file"),
                    f"{len(missing):,} of {len(trained):,} training rows have no label in {shown_path(file)}, the "
                    f"first: {where}, row {row}",
                    "these rows are left out of the targets; add labels for them if that is not intended",
                )
        faults.tell(reporter)
