"""The writing of texts in pieces that are fixed by the data: what is done is kept, whoever did it.

A shard is a set of rows of about the same length, written to a file of its own and put into its place by one
rename. Which rows are in it depends on the lengths alone, so work that was interrupted goes on with any
number of ranks, and what every shard holds is the same.

    <folder>/00000.jsonl   a line a row, in the order of the shard
"""

from __future__ import annotations

import json
import mmap
import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.batches import sorted_batches
from ..failure import Failure

SHARD_TOKENS = 32768  # rows x longest row: a few minutes of a large model on one device
SHARD_ROWS = 256

Shard = NDArray[np.int64]  # row numbers


def plan_shards(lengths: NDArray[np.int64]) -> list[Shard]:
    """Rows (N lengths in tokens) in shards, the longest first."""
    return sorted_batches(lengths, SHARD_TOKENS, SHARD_ROWS)


def whole_batches(batches: Sequence[Shard], lengths: NDArray[np.int64]) -> list[Shard]:
    """Batches of rows (N lengths in tokens), the longest first, put together into shards: consecutive ones, as many
    as a shard may have.

    An engine that is given the rows of such a shard makes the same batches of them as of all rows at once, so that
    each text comes out as it would without shards."""
    shards: list[list[Shard]] = []
    rows = longest = 0
    for batch in batches:
        rows += len(batch)
        if not shards or rows > SHARD_ROWS or rows * longest > SHARD_TOKENS:
            shards.append([])
            rows, longest = len(batch), int(lengths[batch].max())
        shards[-1].append(batch)
    return [np.concatenate(shard) for shard in shards]


def pending(folder: Path, num_shards: int) -> list[int]:
    """The shards that are not done."""
    return [number for number in range(num_shards) if not _file(folder, number).is_file()]


def write_shard(folder: Path, number: int, lines: Sequence[str]) -> None:
    """Put a finished shard into its place. It survives a power cut, or is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    file = _file(folder, number)
    temporary = file.with_suffix(f".{os.getpid()}")
    with temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(lines)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


def in_order(folder: Path, shards: Sequence[Shard]) -> Iterator[bytes]:
    """The lines of all shards in the order of the rows, whatever their number: they are read from one file that
    is mapped, not held in memory. Raises `Failure` R411: a shard has not as many lines of JSON as rows."""
    starts = np.zeros(sum(map(len, shards)), np.int64)
    ends = np.zeros_like(starts)
    whole = folder / "all"
    with whole.open("wb") as stream:
        for number, rows in enumerate(shards):
            bounds = array("q", [stream.tell()])
            with _file(folder, number).open("rb") as lines:
                for line in lines:
                    if not _is_json(line):
                        raise _damaged(_file(folder, number), f"its line {len(bounds)} cannot be read")
                    stream.write(line)
                    bounds.append(bounds[-1] + len(line))
            if len(bounds) != len(rows) + 1:
                raise _damaged(_file(folder, number), f"it has {len(bounds) - 1} lines for {len(rows)} rows")
            starts[rows], ends[rows] = bounds[:-1], bounds[1:]
    with whole.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            yield text[start:end]


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _damaged(file: Path, how: str) -> Failure:
    return Failure("R411", f"what was done of the interrupted stage is damaged: {file}: {how}",
                   f"remove the file (rm {file}); the same command does that part again")  # fmt: skip


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.jsonl"
