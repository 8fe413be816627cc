"""Warnings of a stage that do not stop it: shown once on the console, kept with its artifact.

A stage calls `context.notices.add`. Each notice is a line of `warnings.jsonl` in the artifact, from where the
summaries of all runs that share it take it, and of the control folder, from where the driver shows it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .credentials import redact

FILE = "warnings.jsonl"
OF_EVERY_RUN = ("R365",)  # shown again by each run that takes the artifact from the store: its training is wasted


@dataclass(frozen=True)
class Notice:
    """A warning in the user's words. `spec_path`: the key of the spec that it is about."""

    code: str
    message: str
    hint: str
    spec_path: str


class Notices:
    """Those of one stage. `kept`: the file of the artifact, `shown`: that of the control folder; None: nowhere.
    `owner`: the named run whose stage it is, in whose spec the shown ones are to be looked up; the kept ones are of
    every run that shares the artifact."""

    def __init__(self, kept: Path | None = None, shown: Path | None = None, owner: str = "") -> None:
        self._kept, self._shown, self._owner = kept, shown, owner
        earlier = [] if kept is None else read_notices(kept)
        self._told = {(record["code"], record["spec_path"]) for record in earlier}

    def add(self, notice: Notice) -> None:
        """Once for each code and key, also over interruptions."""
        if (notice.code, notice.spec_path) in self._told:
            return
        self._told.add((notice.code, notice.spec_path))
        record = {**asdict(notice), "message": redact(notice.message), "hint": redact(notice.hint)}
        if self._kept is not None:
            _append(self._kept, record)
        if self._shown is not None:
            path = f"{self._owner}/{notice.spec_path}" if self._owner and notice.spec_path else notice.spec_path
            _append(self._shown, {**record, "spec_path": path})


def read_notices(file: Path) -> list[dict[str, Any]]:
    """The whole lines of such a file; [] where there is none."""
    try:
        lines = file.read_text("utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        return []
    records = [_record(line) for line in lines if line.endswith("\n")]
    return [record for record in records if record is not None]


def _record(line: str) -> dict[str, Any] | None:
    """None: a power cut left something else of it."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    names = {field.name for field in fields(Notice)}
    return record if isinstance(record, dict) and names <= record.keys() else None


def _append(file: Path, record: Mapping[str, Any]) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record, allow_nan=False) + "\n")
