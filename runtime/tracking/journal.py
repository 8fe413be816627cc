"""The run's own `metrics.jsonl`: the metric lines of all its stages, each once.

A line is `{"time": ms, "step": n, "stage": id, "metrics": {...}}`. Lines are copied from the stages' journals
while these grow. How far a stage was copied is not written anywhere: it is the number of its lines that are
already here, so a run that was killed at any moment goes on without a gap or a duplicate.
"""

from __future__ import annotations

import json
import os
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SYSTEM = "system/"  # metrics of the machine: measured by the driver, found in no stage's journal
CHUNK_LINES = 2000

Line = dict[str, Any]


class Journal:
    """`path` is made with the first line; a half-written last line is cut off when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sources: dict[str, tuple[Path, int, int]] = {}  # of each stage: journal, bytes and lines read of it
        self._cut_half_line()
        self._scan()

    def num_lines(self) -> dict[str, int]:
        """Stage id -> how many lines it has, those about the machine included."""
        return {stage: len(offsets) for stage, offsets in self._offsets.items()}

    def num_system_lines(self, stage: str) -> int:
        return len(self._offsets.get(stage, ())) - self._copied[stage]

    def lines(self, stage: str, start: int, count: int) -> list[Line]:
        """Up to `count` lines of a stage, from its line number `start` on."""
        offsets = self._offsets.get(stage, array("q"))[start : start + count]
        if not offsets:
            return []
        lines = []
        with self.path.open("rb") as file:
            for offset in offsets:
                file.seek(offset)
                lines.append(json.loads(file.readline(), parse_constant=_no_number))
        return lines

    def copy_from(self, stage: str, source: Path) -> bool:
        """Append what is new in a stage's journal (complete lines only; it may not exist yet). It may have fewer lines
        than were copied (the machine went down before they reached its disk): as many are written again and skipped.

        Returns whether it is another journal than before, that is, the stage was begun again from nothing: its old
        lines are dropped then."""
        try:
            size = source.stat().st_size
        except OSError:
            return False
        known, position, seen = self._sources.get(stage, (None, 0, 0))
        if known != source or size < position:
            position, seen = 0, 0
        restarted = False
        new: list[Line] = []
        for _, end, line in read_lines(source, position) if position < size else ():
            if seen == 0 and self._copied[stage] and _content(line) != _content(self._first[stage]):
                self.drop(stage)
                restarted = True
            position, seen = end, seen + 1
            if seen > self._copied[stage] + len(new):
                new.append({**line, "stage": stage})
            if len(new) == CHUNK_LINES:
                self.append(new)
                self._sources[stage], new = (source, position, seen), []
        self.append(new)
        self._sources[stage] = (source, position, seen)
        return restarted

    def append(self, lines: Sequence[Line]) -> None:
        """Append lines, all or none. Raises `OSError` (no space)."""
        if not lines:
            return
        encoded = [json.dumps(_ordered(line), allow_nan=False).encode() + b"\n" for line in lines]
        with self.path.open("ab") as file:
            offset = file.tell()
            try:
                file.write(b"".join(encoded))
                file.flush()
            except OSError:
                os.truncate(self.path, offset)
                raise
        for line, data in zip(lines, encoded, strict=True):
            self._count(offset, line)
            offset += len(data)

    def drop(self, stage: str) -> None:
        """Take the stage's lines out."""
        kept = [line for _, _, line in read_lines(self.path, 0) if line["stage"] != stage]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in kept), "utf-8")
        temporary.replace(self.path)
        self._sources.pop(stage, None)
        self._scan()

    def _scan(self) -> None:
        self._offsets: dict[str, array[int]] = {}
        self._copied: Counter[str] = Counter()
        self._first: dict[str, Line] = {}
        for offset, _, line in read_lines(self.path, 0):
            self._count(offset, line)

    def _count(self, offset: int, line: Line) -> None:
        stage = line["stage"]
        self._offsets.setdefault(stage, array("q")).append(offset)
        if not line["metrics"] or not all(name.startswith(SYSTEM) for name in line["metrics"]):
            self._first.setdefault(stage, line)
            self._copied[stage] += 1

    def _cut_half_line(self) -> None:
        try:
            data = self.path.read_bytes()
        except OSError:
            return
        if not data.endswith(b"\n"):
            os.truncate(self.path, data.rfind(b"\n") + 1)


def read_lines(path: Path, position: int) -> Iterator[tuple[int, int, Line]]:
    """(where it begins, where it ends, the line) of every complete line from a position on; what is no record of
    metrics is passed over. No file: no lines."""
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        file.seek(position)
        for data in file:
            if not data.endswith(b"\n"):
                return  # still being written
            start, position = position, position + len(data)
            try:
                line = json.loads(data, parse_constant=_no_number)
            except ValueError:
                continue
            if isinstance(line, dict) and isinstance(line.get("metrics"), dict):
                yield start, position, line


def _no_number(_: str) -> None:
    """A NaN of an earlier version: JSON has no word for it."""


def _content(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return line.get("time"), line.get("step"), repr(line["metrics"])


def _ordered(line: Mapping[str, Any]) -> Line:
    return {name: line.get(name) for name in ("time", "step", "stage", "metrics")}
