"""A plan's data sources -> rows of text, checked one by one.

A row is {"id", "source", "target"}, of a pair with `hypothesis`, the second text; one of validation or test may have
several references, which stand in its column of targets as a list: then the first is the target, and `references` has
all of them. A label (the target of a classification) is text here, too, also where it is a number, and so is the number
of a regression, as Python writes it. What cannot be trained on is a diagnosis with its file and row, never dropped
silently.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from ..failure import Failure
from ..plan.settings import Columns, Source
from . import bulletins
from .classes import Classes
from .columns import Column
from .files import Records, located, read_file

# name -> (version, split and limit -> rows)
BUILTIN = {"bulletins": (bulletins.VERSION, bulletins.bulletins)}
LABEL_HINT = "set data.columns.label to the column of the labels: names of classes, or whole numbers"
NUMBER_HINT = "correct the row, or set data.columns.label to the column of the numbers"
LARGEST = 3.4e38  # about that of float32
BUILTIN_COLUMNS = Columns(source="source", hypothesis=None, target="target", id="id")


def read_sources(
    sources: Sequence[Source],
    columns: Columns,
    split: str,
    locations: Mapping[str, str],
    offline: bool,
    classes: Classes | None = None,
    *,
    numbers: bool = False,
) -> Iterator[dict[str, Any]]:
    """The rows of all sources, one after the other. `split` is the place in the spec (`train`, `validation`,
    `test`, `test.<set>`): it names them in diagnoses and in the ids of rows that have none. `classes`: the targets are
    these, and called so in the rows; None: they are texts or, with `numbers`, numbers.

    Raises `Failure` R201 (cannot be read), R202 (not rows of UTF-8 text), R203 (a column is missing, empty, or not
    text or a finite number), R204 (no rows), R205 (an id comes twice), R206 (not the data of the plan), R207 (a label
    that is none of the classes).
    """
    spec_path = f"data.{split}"
    seen: set[str] = set()
    for source in sources:
        names = BUILTIN_COLUMNS if source.kind == "builtin" else columns
        for where, record in islice(_records(source, locations, offline, spec_path), source.limit):
            row = _row(
                record, names, where, f"{split}-{len(seen)}", several=split != "train", classes=classes, numbers=numbers
            )
            if row["id"] in seen:
                raise Failure(
                    "R205",
                    f"{where}: the id {row['id']!r} comes twice in data.{split}",
                    "ids must be unique; without data.columns.id the number of the row is the id",
                    spec_path="data.columns.id",
                )
            seen.add(row["id"])
            yield row
    if not seen:
        raise Failure("R204", f"data.{split} has no rows", "name a file with at least one row", spec_path=spec_path)


def _records(source: Source, locations: Mapping[str, str], offline: bool, spec_path: str) -> Records:
    """(where, record) of one source; `where` is what a diagnosis calls the row."""
    if source.kind == "builtin":
        yield from _builtin_records(source, spec_path)
    elif source.kind == "hub":
        yield from _hub_records(source, offline, spec_path)
    else:
        for fingerprint in source.fingerprints:
            path = located(fingerprint, locations, f"a file of {spec_path}", spec_path)
            yield from read_file(path, fingerprint, spec_path)


def _row(
    record: Any,
    columns: Columns,
    where: str,
    default_id: str,
    *,
    several: bool,
    classes: Classes | None,
    numbers: bool,
) -> dict[str, Any]:
    row: dict[str, Any] = {"id": default_id}
    if columns.id is not None:
        row["id"] = _column("id", columns.id).text(record, where, number=True)
        where = f"{where} (id {row['id']})"
    row["source"] = _column("source", columns.source).text(record, where)
    if columns.hypothesis is not None:
        row["hypothesis"] = _column("hypothesis", columns.hypothesis).text(record, where)
    if not columns.target:  # of a task that has none
        row["target"] = ""
        return row
    column = _column("target", columns.target)
    target = column.value(record, where)
    if classes is not None:
        label = _label(Column(columns.target, "R203", "data.columns.label", LABEL_HINT), target, where)
        row["target"] = classes.outputs[classes.index(label, where)]
    elif numbers:
        row["target"] = repr(_number(Column(columns.target, "R203", "data.columns.label", NUMBER_HINT), target, where))
    elif not isinstance(target, list | tuple) or not target:
        row["target"] = column.checked(target, where)
    elif not several:
        raise column.failure(
            where,
            f"the column {columns.target!r} holds {type(target).__name__}, not text",
            "a training row has one target; lists of references are for validation and test",
        )
    else:
        references = [column.checked(text, where) for text in target]
        row["target"] = references[0]
        if len(references) > 1:
            row["references"] = references
    return row


def _label(column: Column, value: Any, where: str) -> str:
    if isinstance(value, float):
        raise column.failure(
            where,
            f"the column {column.name!r} holds {value!r}, and a label is the name of a class, or its number",
            "sort them into classes, or predict the numbers: `task: regression`",
        )
    return column.checked(value, where, number=True)


def _number(column: Column, value: Any, where: str) -> float:
    """The number to predict, which float32 has to hold. In a CSV it is text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise column.failure(where, f"the column {column.name!r} is empty", "remove the row, or fill it in")
    found = math.nan
    with suppress(ValueError, OverflowError):
        found = float(value) if type(value) in (int, float, str) else math.nan
    if not abs(found) <= LARGEST:
        raise column.failure(
            where, f"the column {column.name!r} holds {value!r}, which is not a finite number", column.choose
        )
    return found


def _column(role: str, name: str) -> Column:
    return Column(name, "R203", f"data.columns.{role}", f"set data.columns.{role} to a column of texts")


def _builtin_records(source: Source, spec_path: str) -> Records:
    version, rows = BUILTIN.get(source.name or "", (None, None))
    if rows is None or version != source.revision:
        raise Failure(
            "R206",
            f"the plan asks for version {source.revision} of the corpus {source.name}; here is {version}",
            "compile the spec again with the installed version",
            spec_path=spec_path,
        )
    split = source.split or "train"
    if split not in bulletins.SPLITS:
        raise Failure(
            "R201",
            f"the corpus {source.name} has no split {split!r}",
            f"its splits are {', '.join(bulletins.SPLITS)}",
            spec_path=spec_path,
        )
    for number, row in enumerate(rows(split, source.limit), start=1):
        yield f"{source.name} {split} row {number}", row


def _hub_records(source: Source, offline: bool, spec_path: str) -> Records:
    import datasets
    import huggingface_hub.constants

    if offline:  # both libraries read their environment variable at import only; peek and verify may have imported them
        datasets.config.HF_HUB_OFFLINE = True
        huggingface_hub.constants.HF_HUB_OFFLINE = True
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    revision = None if source.revision == "unresolved" else source.revision
    name = f"{source.name}{f'/{source.config}' if source.config else ''} ({source.split})"
    try:
        rows = datasets.load_dataset(source.name, source.config, split=source.split, revision=revision)
    except Exception as error:  # the library raises many kinds; each means that it cannot be loaded
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Failure(
            "R201",
            f"cannot load the data set {name}: {reason}",
            "fetch it first on a machine with a network: this run is offline"
            if offline
            else "check its name, split and revision, and the network",
            spec_path=spec_path,
        ) from error
    classes = {column: feature for column, feature in rows.features.items() if isinstance(feature, datasets.ClassLabel)}
    for number, record in enumerate(rows, start=1):
        yield f"{name} row {number}", {**record, **_named(record, classes)}


def _named(record: Mapping[str, Any], classes: Mapping[str, Any]) -> dict[str, Any]:
    """The labels of a row by the names that the data set itself gives its classes: others number them otherwise.
    What has no label (-1 in the test sets of GLUE) stays as it is."""
    numbers = {column: record[column] for column in classes if isinstance(record[column], int) and record[column] >= 0}
    return {column: classes[column].int2str(number) for column, number in numbers.items()}
