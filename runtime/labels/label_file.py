"""Labels made elsewhere: read from a file and aligned with the training rows by id, never by line.

Released label sets lack lines that their sources have (domain facts 4.2), so a row number says nothing. What is
an error and what is none is as `distilc check --data` says it: rows without a label are left out of the targets;
an id that no training row has is an error; where the data are cut by a `limit`, it is a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from ..data.columns import Column
from ..data.files import located, read_file
from ..failure import Failure
from ..messages.notices import Notice
from ..plan.settings import LabelFile


@dataclass(frozen=True)
class FileLabel:
    """A text and where it stands, as a diagnosis calls the place."""

    text: str
    where: str


def read_label_file(file: LabelFile, locations: Mapping[str, str], spec_path: str) -> dict[str, FileLabel]:
    """Id -> label. `spec_path`: the labeller's place in the spec.

    Raises `Failure` R201, R202, R206 (the file), R341 (a row that is no label), R342 (an id comes twice), R344
    (no rows).
    """
    path = located(file.fingerprint, locations, "the file of labels", f"{spec_path}.file")
    id_column, text_column = (
        Column(name, "R341", f"{spec_path}.columns.{key}", f"name it: {spec_path}.columns.{key}")
        for key, name in (("id", file.id), ("text", file.text))
    )
    found: dict[str, FileLabel] = {}
    for where, record in read_file(path, file.fingerprint, f"{spec_path}.file"):
        id = id_column.text(record, where, number=True)
        text = text_column.text(record, f"{where} (id {id})")
        if id in found:
            raise Failure("R342", f"{where}: the id {id!r} was in {found[id].where} already",
                          "a row has one label: remove all but one", spec_path=f"{spec_path}.file")  # fmt: skip
        found[id] = FileLabel(text, where)
    if not found:
        raise Failure("R344", f"{path} has no labels", "is it the right file?", spec_path=f"{spec_path}.file")
    return found


def check_alignment(
    labels: Mapping[str, FileLabel],
    trained: Collection[str],
    on_notice: Callable[[Notice], None],
    *,
    whole: bool,
    spec_path: str,
) -> None:
    """Are these the labels of these rows? `whole`: no `limit` cuts the training data. Where one does, labels of no
    row are a warning (R354): of rows that were cut off, or of other data.

    Raises `Failure` R343: a label of no training row, or no row with a label.
    """
    unknown = [id for id in labels if id not in trained]
    if len(unknown) == len(labels) or (unknown and whole):
        first = unknown[0]
        more = f", nor are {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        raise Failure(
            "R343",
            f"{labels[first].where}: the id {first!r} is none of the {len(trained):,} ids of the training data{more}",
            "labels are aligned with data.train by its column data.columns.id: were they made for other data?",
            spec_path=f"{spec_path}.file",
        )
    if unknown:
        on_notice(
            Notice(
                "R354",
                f"{len(unknown):,} of {len(labels):,} labels are of no training row, the first: "
                f"{labels[unknown[0]].where}, id {unknown[0]!r}",
                "they are left out: `limit` cuts the training data; more of them than that means labels of other data",
                f"{spec_path}.file",
            )
        )
