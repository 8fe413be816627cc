"""How many rows a training set has and how long they are: exactly where the rows are in the store, counted in local
files or, where those are large, by their first rows, by published numbers of well-known sets, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from os.path import isfile
from pathlib import Path
from typing import Any, Literal

from ..diagnostics.record import record
from ..tasks.task import TASKS
from .data_files import UnreadableFile, cell, even_sample, records

Origin = Literal["store", "counted", "files", "published", "corpus"]  # `files`: from their first rows and sizes

TOKENS_PER_WORD = 1.3
CHARACTERS_PER_TOKEN = 4
_SAMPLED_ROWS = 500
_COUNTED_BYTES = 64 << 20  # of all files of a training set together: up to here every row is counted
_MOST_JSON_BYTES = 64 << 20  # a .json file is one value: it cannot be read in part


@record
class DataSize:
    """Rows, and their mean lengths in tokens as they are trained on (cut at the limits)."""

    rows: int
    source_tokens: float
    target_tokens: float
    origin: Origin


# (data set, config) -> rows of `train`, mean words of source and target. Rows as the hub counts them; words of the
# summaries and of EN-RO: arXiv 2010.13002, Table 3.
PUBLISHED: Mapping[tuple[str, str | None], tuple[int, float, float]] = {
    ("EdinburghNLP/xsum", None): (204_045, 358, 21),
    ("abisee/cnn_dailymail", "3.0.0"): (287_113, 756, 56),
    ("wmt/wmt16", "ro-en"): (610_320, 23, 23),
    ("nyu-mll/glue", "mnli"): (392_702, 30, 0),
}
# The built-in ones: rows of `train` without a limit, words as above.
CORPORA: Mapping[str, tuple[int, float, float]] = {"bulletins": (20_000, 61, 20)}


def described_size(settings: Mapping[str, Any], locations: Mapping[str, str]) -> DataSize | None:
    """The training set of a `data` stage's settings, whatever is in the store: equal ones have one size."""
    counted = _num_bytes(settings["train"], locations) <= _COUNTED_BYTES
    sizes = [_source_size(source, settings, locations, counted) for source in settings["train"]]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or not known:
        return None
    return _together(known)


def mixed_size(size: DataSize, shares: Iterable[float]) -> DataSize:
    """A mix in which every source is there once for each target, as often as its share says."""
    rows = sum(share_rows(size.rows, share) for share in shares)
    return DataSize(rows, size.source_tokens, size.target_tokens, size.origin)


def share_rows(rows: int, share: float) -> int:
    """So many rows a target with this share has: each as often as the share is whole, and the rest of it drawn."""
    return rows * int(share) + round(rows * (share - int(share)))


def stored_size(stores: Iterable[Path], key: str) -> DataSize | None:
    """What the data stage with this key counted when it ran; None: its artifact is in none of the stores."""
    for store in stores:
        try:
            counted = json.loads((store / key / "manifest.json").read_text("utf-8"))["summary"]["train"]
            rows = int(counted["examples"])
            source, target = counted["source_tokens"], counted.get("target_tokens", 0)
            return DataSize(rows, source / rows, target / rows, "store")
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            continue  # not there, or of another version
    return None


def _files(source: Mapping[str, Any], locations: Mapping[str, str]) -> list[Path]:
    return [Path(locations.get(fingerprint, "")) for fingerprint in source["fingerprints"]]


def _num_bytes(sources: Sequence[Mapping[str, Any]], locations: Mapping[str, str]) -> int:
    """Of all local files; what is not there counts nothing."""
    files = [file for source in sources for file in _files(source, locations)]
    return sum(file.stat().st_size for file in files if isfile(file))


def _source_size(
    source: Mapping[str, Any], settings: Mapping[str, Any], locations: Mapping[str, str], counted: bool
) -> DataSize | None:
    if source["kind"] == "files":
        return _file_size(source, settings, locations, counted)
    if source["split"] != "train":
        return None
    published = CORPORA.get(source["name"])
    origin: Origin = "corpus"
    if source["kind"] == "hub":
        published, origin = PUBLISHED.get((source["name"], source["config"])), "published"
    if published is None:
        return None
    rows, *words = published
    if source["limit"] is not None:
        # The built-in corpora have as many rows as one asks for.
        rows = source["limit"] if origin == "corpus" else min(rows, source["limit"])
    lengths = [number * TOKENS_PER_WORD for number in words]
    return DataSize(rows, *_cut(lengths, settings), origin)


def _file_size(
    source: Mapping[str, Any], settings: Mapping[str, Any], locations: Mapping[str, str], counted: bool
) -> DataSize | None:
    """`counted`: every row is counted; else the first ones of each file are, and the rest by its size."""
    sizes: list[DataSize] = []
    for file in _files(source, locations):
        try:
            found = file.stat()
        except OSError:
            return None
        sample = _sample(str(file), found.st_size, found.st_mtime_ns, counted) if isfile(file) else None
        if sample is None:
            return None
        number, rows = sample
        lengths = [_lengths(row, settings) for row in rows]
        means = [sum(side) / len(rows) for side in zip(*lengths, strict=True)]
        sizes.append(DataSize(number, means[0], means[1], "counted" if counted else "files"))
    if not sizes:
        return None  # no file of it is there
    whole = _together(sizes)
    if source["limit"] is None:
        return whole
    return DataSize(min(whole.rows, source["limit"]), whole.source_tokens, whole.target_tokens, whole.origin)


@lru_cache(maxsize=64)
def _sample(name: str, num_bytes: int, changed_ns: int, counted: bool) -> tuple[int, list[Mapping[str, Any]]] | None:
    """(number of rows, some of them) of a file, which the runs of a sweep share; None: it is not known. The file is
    as it was when it had so many bytes, and was changed at that time."""
    file = Path(name)
    suffix = file.suffix.lower()
    if suffix == ".parquet" or (suffix == ".json" and num_bytes > _MOST_JSON_BYTES):
        return None
    try:
        number, sample = even_sample(file, _SAMPLED_ROWS) if counted else _first_rows(file, num_bytes)
    except (UnreadableFile, OSError):
        return None
    return (number, sample) if sample and all(isinstance(row, Mapping) for row in sample) else None


def _first_rows(file: Path, num_bytes: int) -> tuple[int, list[Any]]:
    """(number of rows by the size of the first ones, those)."""
    rows = records(file)
    sample = [row for _, row in islice(rows, _SAMPLED_ROWS)]
    if len(sample) < _SAMPLED_ROWS:
        return len(sample), sample
    if file.suffix.lower() == ".json":
        return len(sample) + sum(1 for _ in rows), sample
    with file.open("rb") as stream:
        sampled_bytes = sum(len(line) for line in islice(stream, _SAMPLED_ROWS))
    return max(_SAMPLED_ROWS, round(num_bytes * _SAMPLED_ROWS / sampled_bytes)), sample


def _lengths(row: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[float, float]:
    """Tokens of one row's source and target, by their characters, cut at the limits."""
    columns = settings["columns"]

    def tokens(*names: str | None) -> float:
        texts = [str(cell(row, name) or "") for name in names if name]
        return sum(map(len, texts)) / CHARACTERS_PER_TOKEN

    target = columns["target"] if TASKS[settings["task"]].writes_texts else None
    return _cut([tokens(columns["source"], columns.get("hypothesis")), tokens(target)], settings)


def _cut(lengths: Sequence[float], settings: Mapping[str, Any]) -> tuple[float, float]:
    return min(lengths[0], settings["max_source_tokens"]), min(lengths[1], settings["max_target_tokens"])


def _together(sizes: Iterable[DataSize]) -> DataSize:
    """Several sources as one set."""
    sizes = list(sizes)
    rows = sum(size.rows for size in sizes) or 1
    return DataSize(
        sum(size.rows for size in sizes),
        sum(size.rows * size.source_tokens for size in sizes) / rows,
        sum(size.rows * size.target_tokens for size in sizes) / rows,
        sizes[0].origin,
    )
