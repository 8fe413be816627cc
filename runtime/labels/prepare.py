"""What a labeller works on, made once by rank 0 and read by all: the training rows, as it reads them.

    <folder>/train.*       token rows (data/rows.py) of the labeller's own tokenizer, without targets; where the
                           labels come from a file there are no tokens, and each raw row holds its `label`
    <folder>/labels.npy    the label ids of the first target: a multilingual labeller answers in their language
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, tee
from pathlib import Path
from typing import Any

import numpy as np

from ..data.rows import write_rows
from ..data.sources import read_sources
from ..data.tokenize import prepare, tokenize_sources, tokenize_targets
from ..messages.notices import Notice
from ..plan.settings import PseudoLabelSettings
from .label_file import check_alignment, read_label_file

SPLIT = "train"
LABELS = "labels.npy"
UPDATE_ROWS = 256
FIRST_TARGET_TOKENS = 64  # enough to hold what stands at both ends

Prepared = tuple[list[int], list[int], dict[str, str]]


def prepare_rows(
    folder: Path,
    settings: PseudoLabelSettings,
    locations: Mapping[str, str],
    spec_path: str,
    tokenizer: Any,
    on_progress: Callable[[int], None],
    on_notice: Callable[[Notice], None],
    *,
    offline: bool,
) -> None:
    """Write the rows, unless they are there. `tokenizer`: the labeller's; None: the labels come from a file.
    `on_notice` gets warnings of labels that are for no row.

    Raises `Failure` R20x (the data), R211 (a language), R34x (the file of labels).
    """
    if folder.is_dir():
        return
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)

    rows = _counted(read_sources(settings.train, settings.columns, SPLIT, locations, offline), on_progress)
    if tokenizer is None:
        write_rows(new, SPLIT, _aligned(rows, settings, locations, spec_path, on_notice))
    else:
        prepare(tokenizer, settings)
        first = next(rows)
        ((ids, _),) = tokenize_targets([first["target"]], tokenizer, FIRST_TARGET_TOKENS)
        np.save(new / LABELS, np.asarray(ids, np.int32))
        write_rows(new, SPLIT, _tokenized(chain([first], rows), settings, tokenizer))
    new.rename(folder)


def _counted(rows: Iterator[dict[str, str]], on_progress: Callable[[int], None]) -> Iterator[dict[str, str]]:
    for number, row in enumerate(rows, 1):
        yield row
        if number % UPDATE_ROWS == 0:
            on_progress(number)


def _tokenized(rows: Iterator[dict[str, str]], settings: PseudoLabelSettings, tokenizer: Any) -> Iterator[Prepared]:
    assert settings.max_source_tokens is not None  # of a labeller that reads
    rows, again = tee(rows)  # no further apart than the rows that are tokenized at once
    sources = (settings.prefix + row["source"] for row in again)
    tokens = tokenize_sources(sources, tokenizer, settings.max_source_tokens)
    for row, (ids, _) in zip(rows, tokens, strict=True):
        yield ids, [], row


def _aligned(
    rows: Iterator[dict[str, str]],
    settings: PseudoLabelSettings,
    locations: Mapping[str, str],
    spec_path: str,
    on_notice: Callable[[Notice], None],
) -> Iterator[Prepared]:
    assert settings.file is not None  # of labels that no model writes
    labels = read_label_file(settings.file, locations, spec_path)
    trained: set[str] = set()
    for row in rows:
        trained.add(row["id"])
        label = labels.get(row["id"])
        yield [], [], row if label is None else {**row, "label": label.text}
    whole = all(source.limit is None for source in settings.train)
    check_alignment(labels, trained, on_notice, whole=whole, spec_path=spec_path)
