"""The `targets` stage: the data's token rows and labels -> the rows that a student is trained on.

A data artifact like the data stage's: `train` holds the rows of each target one after the other, the other splits
are the data's own (hard links where the file system has them). Beside them

    train.source_row.npy   int64, one for each row: the row of the data's `train` that its source is. Whoever keeps
                           something for each source (the encoder states of a teacher) finds it by this.

A raw row says in `by` which target it is. Rows whose label was dropped are left out.
"""

from __future__ import annotations

import os
import shutil
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..data.classes import FILE as CLASSES
from ..data.rows import Rows, split_names, write_rows
from ..data.set_remarks import SetRemarks, in_short, remarks_of
from ..data.tokenize import Counts, prepare, tokenize_targets
from ..execution.context import Context
from ..failure import Failure
from ..labels.draw import draw
from ..labels.record import read_labels, source_hash
from ..models.load import load_tokenizer, model_folder
from ..plan.plan import Stage
from ..plan.settings import DataSettings, TargetsSettings
from ..protocol import StageKind

ORIGINAL = "original"
TRAIN = "train"
UPDATE_ROWS = 256

Row = tuple[Any, Any, dict[str, str]]  # source ids, target ids, raw row
Target = tuple[int, Any, bool, dict[str, str]]  # row of the data, target ids, were they cut, raw row


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """Raises `Failure` R347: labels that are not those of the data, R349: nothing to train on."""
    settings: TargetsSettings = stage.settings
    rows = Rows.open(context.inputs["data"], TRAIN)
    tokenizer = load_tokenizer(model_folder(context.inputs["tokenizer"]))
    of_the_data: DataSettings = context.plan.stage(stage.needs["data"]).settings
    prepare(tokenizer, of_the_data)
    counts = Counts()
    numbers: dict[str, int] = {}
    source_rows = array("q")

    def mixed() -> Iterator[Row]:
        for name in settings.targets:
            before = counts.examples
            share = settings.shares.get(name, 1.0)
            found = _original(rows, share) if name == ORIGINAL else _labels(
                name, share, rows, context.inputs[f"labels.{name}"], tokenizer, settings.max_target_tokens
            )  # fmt: skip
            for i, target, cut, record in found:
                source = rows.source(i)
                source_rows.append(i)
                counts.examples += 1
                counts.source_tokens += len(source)
                counts.target_tokens += len(target)
                counts.truncated_target += cut
                types = rows.token_types(i)
                yield source, target, record if types is None else {**record, "token_types": types.tolist()}
                if counts.examples % UPDATE_ROWS == 0:
                    update(counts.examples)
            numbers[name] = counts.examples - before

    with context.progress.task("mixing targets", None, "examples") as update:
        watched = SetRemarks(TRAIN, texts=not (context.inputs["data"] / CLASSES).is_file())
        write_rows(context.folder, TRAIN, watched.watch(mixed(), tokenizer))
    if not source_rows:
        raise Failure(
            "R349",
            f"the targets {', '.join(settings.targets)} have no row: there is nothing to train on",
            "raise their shares, or loosen `keep` of the labels",
            spec_path="targets",
        )
    np.save(context.folder / f"{TRAIN}.source_row.npy", np.asarray(source_rows, np.int64))
    _link_other_splits(context.inputs["data"], context.folder)
    context.journal.log({f"targets/{name}": number for name, number in numbers.items()}, 0)
    told = ", ".join(f"{number:,} {name}" for name, number in numbers.items())
    line = f"{counts.examples:,} training examples ({told}), {counts.source_tokens + counts.target_tokens:,} tokens"
    cut = f", {counts.truncated_target:,} labels cut" if counts.truncated_target else ""
    notices = remarks_of([watched], "targets")
    for notice in notices:
        context.notices.add(notice)
    return {TRAIN: asdict(counts), "targets": numbers, "line": line + cut + in_short(notices)}


def _original(rows: Rows, share: float) -> Iterator[Target]:
    ids: Sequence[str] = [str(rows.raw(i)["id"]) for i in range(rows.num_examples)]
    for i in draw(ORIGINAL, ids, share).tolist():
        yield i, rows.target(i), False, {**rows.raw(i), "by": ORIGINAL}


def _labels(name: str, share: float, rows: Rows, folder: Path, tokenizer: Any, limit: int) -> Iterator[Target]:
    """The labels that are kept, tokenized as targets of the student."""
    kept: list[int] = []
    ids: list[str] = []
    texts: list[str] = []
    num_labels = 0
    for i, label in enumerate(read_labels(folder)):
        num_labels += 1
        row = rows.raw(i) if i < rows.num_examples else {}
        if row.get("id") != label.id or source_hash(row["source"]) != label.source_sha256:
            raise _stranger(name, i)
        if label.dropped is None and label.text is not None:
            kept.append(i)
            ids.append(label.id)
            texts.append(label.text)
    if num_labels != rows.num_examples:
        raise _stranger(name, num_labels)
    drawn = draw(name, ids, share).tolist()
    tokens = tokenize_targets((texts[position] for position in drawn), tokenizer, limit)
    for position, (target, cut) in zip(drawn, tokens, strict=True):
        i = kept[position]
        yield i, target, cut, {**rows.raw(i), "target": texts[position], "by": name}


def _stranger(name: str, i: int) -> Failure:
    return Failure(
        "R347",
        f"the labels of {name} are not those of the training data: row {i + 1} is another one",
        "make the labels again: --redo with the id of their stage",
        spec_path=f"pseudo_labels.{name}",
    )


def _link_other_splits(data: Path, folder: Path) -> None:
    """The files of the data's other splits, without a copy where the file system can do without."""
    for split in split_names(data):
        if split == TRAIN:
            continue
        for file in (*data.glob(f"{split}.*.npy"), data / f"{split}.jsonl"):
            _link(file, folder)
    if (classes := data / CLASSES).is_file():
        _link(classes, folder)


def _link(file: Path, folder: Path) -> None:
    new = folder / file.name
    new.unlink(missing_ok=True)  # of an interrupted attempt
    try:
        os.link(file, new)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, new)


TARGETS = StageKind(run=run, parallel=False)
