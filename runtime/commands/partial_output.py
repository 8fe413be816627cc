"""An output file that appears whole, and whose work goes on where it was interrupted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ..data.files import LINES
from ..failure import Failure
from ..messages.outlet import lost_output
from ..messages.terminal import tell

Records = Sequence[dict[str, Any]]
OTHER_FORMS = (".parquet", ".csv", ".tsv", ".json", ".gz")


class Output(Protocol):
    """`done`: how many records are there, counted from the first."""

    done: int

    def write(self, records: Records) -> None:
        """The next records."""


@contextmanager
def open_output(path: Path | None, digest: str) -> Iterator[Output]:
    """Where records go: to standard output (None), or to a file that is there when all of them are.

    `digest` says what they are the work of: what an interrupted work of the same digest left is kept, up to the
    first record that cannot be read. A .txt file gets the predictions alone, a line each; any other JSON lines.
    Raises `Failure` R369: it cannot be written, or its name promises another form, or nobody reads standard output.
    """
    if path is None:
        yield _Terminal()
        return
    if path.suffix.lower() in OTHER_FORMS:
        raise Failure("R369", f"{path}: predictions are written as JSON lines or as plain text",
                      f"name it {path.with_suffix('.jsonl').name} or {path.with_suffix('.txt').name}")  # fmt: skip
    try:
        part = _Part(path, digest)
        try:
            yield part
        finally:
            part.close()
        part.finish()
    except OSError as error:
        own = (None, str(path), str(part_of(path)), str(_temporary(path)))
        if error.filename not in own:
            raise
        raise Failure("R369", f"cannot write {path}: {error.strerror or error}", "name another file with -o") from error


def part_of(path: Path) -> Path:
    """Where the work on a file is kept until it is done."""
    return path.with_name(f".{path.name}.part")


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


class _Terminal:
    """JSON lines as they are done. Nothing is kept."""

    def __init__(self) -> None:
        self.done = 0

    def write(self, records: Records) -> None:
        tell("".join(map(_line, records)), end="")
        if (lost := lost_output()) is not None:
            why = "nobody reads standard output any more" if isinstance(lost, BrokenPipeError) else lost.strerror
            raise Failure("R369", f"{why}: {self.done} predictions were written before", "name a file with -o, which "
                          "keeps what is done")  # fmt: skip
        self.done += len(records)


class _Part:
    """JSON lines in a file beside the output; its first line says what they are the work of."""

    def __init__(self, path: Path, digest: str) -> None:
        self.path, self.part = path, part_of(path)
        head = json.dumps({"work": digest}, allow_nan=False) + "\n"
        self.records = _kept(self.part, head) if self.part.is_file() else []
        self.done = len(self.records)
        self._file = self.part.open("w", encoding="utf-8", newline="\n")
        self._file.writelines([head, *map(_line, self.records)])
        self._file.flush()

    def write(self, records: Records) -> None:
        self._file.writelines(map(_line, records))
        self._file.flush()
        self.records += records
        self.done += len(records)

    def close(self) -> None:
        self._file.close()

    def finish(self) -> None:
        """The output, whole; the part is gone."""
        if self.path.suffix.lower() == LINES:
            lines = [" ".join(record["prediction"].splitlines()) + "\n" for record in self.records]
        else:
            lines = [_line(record) for record in self.records]
        temporary = _temporary(self.path)
        temporary.write_text("".join(lines), "utf-8", newline="\n")
        os.replace(temporary, self.path)
        self.part.unlink()


def _kept(part: Path, head: str) -> list[dict[str, Any]]:
    """The records of earlier work, up to the first that is damaged: a kill cuts the last line off, and where the
    power failed a line may hold anything."""
    first, *lines = part.read_bytes().split(b"\n")
    if first != head.rstrip("\n").encode():
        return []
    records: list[dict[str, Any]] = []
    for line in lines[:-1]:
        try:
            record = json.loads(line.decode())
        except ValueError:
            break
        if not isinstance(record, dict) or not isinstance(record.get("prediction"), str):
            break
        records.append(record)
    return records
