"""Token rows on disk: written once, memory-mapped ever after. The example id is the row number.

Each split is five files: `<split>.source.npy` and `<split>.target.npy` (all token ids end to end, int32),
`<split>.source_offsets.npy` and `<split>.target_offsets.npy` (int64, N + 1 entries: row i is
`ids[offsets[i]:offsets[i + 1]]`), and `<split>.jsonl` (the raw texts: id, source, target). Targets that are numbers are
float32 instead of ids. Of pairs of texts whose tokenizer marks which of the two a token is of, a sixth:
`<split>.token_types.npy` (int8, laid out as the source ids). Splits are `train`, `validation` and `test.<set>`.
"""

from __future__ import annotations

import json
import mmap
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..failure import Failure

Ids = NDArray[np.int32]
Lengths = NDArray[np.int64]

_SIDES = ("source", "target")
_IDS, _NUMBERS = "<i4", "<f4"


class Rows:
    """One split, read only. `source(i)` and `target(i)` are views of the mapped file; targets are labels
    (end token included, no decoder start token, no padding). Lengths are in tokens."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder = folder
        self.split = split
        try:
            self._ids = {side: np.load(folder / f"{split}.{side}.npy", mmap_mode="r") for side in _SIDES}
            self._offsets = {side: np.load(folder / f"{split}.{side}_offsets.npy") for side in _SIDES}
        except (OSError, ValueError) as error:
            raise Failure("R231", f"cannot read the token rows of {split} in {folder}: {error}",
                          "make them again: --redo data") from error
        self.source_lengths: Lengths = np.diff(self._offsets["source"])  # (N,)
        self.target_lengths: Lengths = np.diff(self._offsets["target"])  # (N,)
        types = folder / f"{split}.token_types.npy"
        self._token_types: NDArray[np.int8] | None = np.load(types, mmap_mode="r") if types.is_file() else None
        self._lines: tuple[mmap.mmap, NDArray[np.int64]] | None = None

    @classmethod
    def open(cls, folder: Path, split: str) -> Rows:
        """The rows of a split of a data artifact. `Failure` R231: they are not there or damaged."""
        return cls(folder, split)

    @property
    def num_examples(self) -> int:
        return len(self.source_lengths)

    def __len__(self) -> int:
        return len(self.source_lengths)

    def source(self, i: int) -> Ids:
        """Token ids of source i, (S,) int32."""
        return self._row("source", i)

    def target(self, i: int) -> Ids:
        """Label ids of target i, (T,) int32; of a number that is predicted (1,) float32."""
        return self._row("target", i)

    def token_types(self, i: int) -> NDArray[np.int8] | None:
        """Which text of a pair each token of source i is of, (S,) int8; None: nothing says it."""
        if self._token_types is None:
            return None
        found: NDArray[np.int8] = self._token_types[self._offsets["source"][i] : self._offsets["source"][i + 1]]
        return found

    def raw(self, i: int) -> dict[str, Any]:
        """The texts of row i as they were read: {"id", "source", "target"}; of a pair `hypothesis`; `references`, where
        there are several: the target is the first of them."""
        if self._lines is None:
            self._lines = _map_lines(self.folder / f"{self.split}.jsonl")
        text, starts = self._lines
        record: dict[str, Any] = json.loads(text[starts[i] : starts[i + 1]])
        return record

    def source_rows(self) -> NDArray[np.int64] | None:
        """In a mix of targets: the row of the data that each row's source is, (N,); None: the rows are the data's
        own."""
        file = self.folder / f"{self.split}.source_row.npy"
        return np.load(file) if file.is_file() else None

    def _row(self, side: str, i: int) -> Ids:
        offsets = self._offsets[side]
        row: Ids = self._ids[side][offsets[i] : offsets[i + 1]]
        return row


def references_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The references of a raw row: its target or, where it has several, all of them."""
    return tuple(record.get("references", ())) or (str(record["target"]),)


def split_names(folder: Path) -> list[str]:
    """The splits of a data artifact: train, validation, then the test sets by name."""
    suffix = ".source_offsets.npy"
    found = sorted(path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}"))
    first = [name for name in ("train", "validation") if name in found]
    return first + [name for name in found if name not in first]


def write_rows(
    folder: Path,
    split: str,
    rows: Iterable[tuple[Sequence[int], Sequence[float], Mapping[str, Any]]],
    *,
    numbers: bool = False,
) -> None:
    """Write one split from (source ids, target ids, {"id", "source", "target"}), a row at a time. `token_types` of a
    raw row, one for each source id, are kept beside the ids, not with the texts. `numbers`: targets are no ids."""
    types = {"source": _IDS, "target": _NUMBERS if numbers else _IDS}
    token_types = array("b")
    offsets = {side: array("q", [0]) for side in _SIDES}
    with (
        (folder / f"{split}.source.npy").open("wb") as source_file,
        (folder / f"{split}.target.npy").open("wb") as target_file,
        (folder / f"{split}.jsonl").open("w", encoding="utf-8", newline="\n") as text_file,
    ):
        files = {"source": source_file, "target": target_file}
        for side, file in files.items():
            _write_header(file, types[side], 0)
        for source, target, record in rows:
            for side, ids in (("source", source), ("target", target)):
                files[side].write(np.asarray(ids, dtype=types[side]).tobytes())
                offsets[side].append(offsets[side][-1] + len(ids))
            texts = dict(record)
            token_types.extend(texts.pop("token_types", None) or [0] * len(source))
            text_file.write(json.dumps(texts, ensure_ascii=False, allow_nan=False) + "\n")
        for side, file in files.items():
            _write_header(file, types[side], offsets[side][-1])
    for side in _SIDES:
        np.save(folder / f"{split}.{side}_offsets.npy", np.asarray(offsets[side], dtype=np.int64))
    if any(token_types):
        np.save(folder / f"{split}.token_types.npy", np.asarray(token_types, dtype=np.int8))


def _write_header(file: BinaryIO, type: str, num_ids: int) -> None:
    """The .npy header, written before the length is known and once more after: numpy pads it so that a
    longer shape does not move the data."""
    end = file.tell()
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": type, "fortran_order": False, "shape": (num_ids,)})
    if end and file.tell() != _HEADER_BYTES:
        raise AssertionError("the .npy header grew")
    file.seek(max(end, file.tell()))


_HEADER_BYTES = 128


def _map_lines(path: Path) -> tuple[mmap.mmap, NDArray[np.int64]]:
    """The mapped file and where its lines start, (N + 1,)."""
    with path.open("rb") as file:
        text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    ends = array("q", [0])
    position = text.find(b"\n")
    while position >= 0:
        ends.append(position + 1)
        position = text.find(b"\n", position + 1)
    return text, np.asarray(ends, dtype=np.int64)
