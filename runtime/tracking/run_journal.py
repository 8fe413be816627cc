"""The run's own `metrics.jsonl`: the metric lines of all its stages, each once.

A line is `{"time": ms, "step": n, "stage": id, "metrics": {...}}`. Lines are copied from the stages' journals
while these grow. How far a stage was copied is not written anywhere: it is the number of its lines that are
already here, so a run that was killed at any moment goes on without a gap or a double.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SYSTEM = "system/"  # metrics of the machine: measured by the driver, found in no stage's journal
READ_BYTES = 1 << 20

Line = dict[str, Any]


class RunJournal:
    """`path` is made with the first line; a half-written last line is cut off when it is opened.

    `generation` counts how often lines were taken out (a stage was computed again from nothing): positions
    that a reader remembers hold within one generation only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self._first: dict[str, Line] = {}
        self._copied: dict[str, int] = {}
        self._system: dict[str, int] = {}
        self._sources: dict[str, tuple[Path, int]] = {}
        self._to_skip: dict[str, int] = {}
        self._cut_half_line()
        for line in read_lines(path, 0):
            self._count(line[1])

    def num_lines(self) -> dict[str, int]:
        """Stage id -> how many lines it has, those about the machine included."""
        ids = {*self._copied, *self._system}
        return {id: self._copied.get(id, 0) + self._system.get(id, 0) for id in ids}

    def num_system_lines(self, stage: str) -> int:
        return self._system.get(stage, 0)

    def copy_from(self, stage: str, source: Path) -> bool:
        """Append what is new in a stage's journal (complete lines only; it may not exist yet).

        Returns whether the journal is another one than before, that is, the stage was started anew: its old
        lines are dropped then."""
        try:
            size = source.stat().st_size
        except OSError:
            return False
        known, position = self._sources.get(stage, (None, 0))
        anew = False
        if known != source or size < position:
            position, anew = self._attach(stage, source)
        while position < size:
            lines, last = [], position
            for end, line in read_lines(source, position):
                last = end
                if self._to_skip[stage] > 0:
                    self._to_skip[stage] -= 1
                else:
                    lines.append({**line, "stage": stage})
                if last - position > READ_BYTES:
                    break
            self.append(lines)
            self._sources[stage] = (source, last)
            if last == position:
                break
            position = last
        self._sources[stage] = (source, position)
        return anew

    def append(self, lines: Sequence[Line]) -> None:
        """Append lines, all or none. Raises `OSError` (no space)."""
        if not lines:
            return
        data = "".join(json.dumps(_ordered(line), allow_nan=False) + "\n" for line in lines).encode()
        with self.path.open("ab") as file:
            before = file.tell()
            try:
                file.write(data)
                file.flush()
            except OSError:
                os.truncate(self.path, before)
                raise
        for line in lines:
            self._count(line)

    def _attach(self, stage: str, source: Path) -> tuple[int, bool]:
        """Where to read on in a journal that was not read in this process. It may have fewer lines than were
        copied (the machine went down before they reached its disk): as many come again."""
        copied = self._copied.get(stage, 0)
        position, number = 0, 0
        self._to_skip[stage] = 0
        for end, line in read_lines(source, 0):
            if number == 0 and copied and _content(line) != _content(self._first[stage]):
                self.drop(stage)
                return 0, True
            if number == copied:
                break
            position, number = end, number + 1
        self._to_skip[stage] = copied - number
        return position, False

    def drop(self, stage: str) -> None:
        """Take the stage's lines out."""
        kept = [line for _, line in read_lines(self.path, 0) if line["stage"] != stage]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in kept), "utf-8")
        temporary.replace(self.path)
        self.generation += 1
        for known in (self._copied, self._system, self._first, self._sources):
            known.pop(stage, None)

    def _count(self, line: Line) -> None:
        stage = line["stage"]
        if is_system(line):
            self._system[stage] = self._system.get(stage, 0) + 1
            return
        self._first.setdefault(stage, line)
        self._copied[stage] = self._copied.get(stage, 0) + 1

    def _cut_half_line(self) -> None:
        try:
            data = self.path.read_bytes()
        except OSError:
            return
        if not data.endswith(b"\n"):
            os.truncate(self.path, data.rfind(b"\n") + 1)


def read_lines(path: Path, position: int) -> Iterator[tuple[int, Line]]:
    """(position after the line, the line) of every complete line from a position on; what is no record of
    metrics is passed over. No file: no lines. A NaN (of an earlier version) is None: JSON has no word for it."""
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        file.seek(position)
        for data in file:
            if not data.endswith(b"\n"):
                return  # still being written
            position += len(data)
            try:
                line = json.loads(data, parse_constant=lambda _: None)
            except ValueError:
                continue
            if isinstance(line, dict) and isinstance(line.get("metrics"), dict):
                yield position, line


def is_system(line: Mapping[str, Any]) -> bool:
    return all(name.startswith(SYSTEM) for name in line["metrics"])


def _content(line: Line) -> tuple[Any, ...]:
    return line.get("time"), line.get("step"), repr(line["metrics"])


def _ordered(line: Line) -> Line:
    return {name: line.get(name) for name in ("time", "step", "stage", "metrics")}
