"""What is known of a run, on disk: `tracking.json`.

It says what happened (stages, results, files) and what a tracking server was told of it. Sending makes the second
equal to the first, so it can stop at any moment and be taken up by the next run of the same plan.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 2


@dataclass
class StageRecord:
    """Times in ms since 1970. `state`: RUNNING | FINISHED | FAILED | KILLED, as MLflow says it. `attempt` counts how
    often the stage was computed from nothing."""

    state: str
    started: int
    attempt: int = 0
    ended: int | None = None
    cached: bool = False
    folder: str | None = None
    created: float | None = None
    seconds: float | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    message: str = ""


@dataclass
class SentRun:
    """One MLflow run as the server knows it. `lines`: how many journal lines of the stage it has; `sent`: name of
    what was sent otherwise (parameters, a file, ...) -> hash of what was sent."""

    run_id: str
    attempt: int = 0
    state: str | None = None
    lines: int = 0
    sent: dict[str, str] = field(default_factory=dict)


@dataclass
class Sent:
    """What one server was told. `runs`: by stage id, the parent run as ''."""

    server: str = ""
    runs: dict[str, SentRun] = field(default_factory=dict)


@dataclass
class Record:
    """The past of a run, and what the server it was last sent to knows of it. `token`: by this tag its MLflow runs are
    found on any server."""

    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    state: str = "RUNNING"
    started: int = field(default_factory=lambda: now_ms())
    ended: int | None = None
    stages: dict[str, StageRecord] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    sent: Sent = field(default_factory=Sent)

    def stage_started(self, id: str) -> None:
        stage = self.stages.get(id)
        if stage is None:
            stage = self.stages[id] = StageRecord(state="RUNNING", started=now_ms())
        elif stage.state == "FINISHED":  # it is computed again
            stage = self._next_attempt(id, now_ms())
        stage.state, stage.ended, stage.message = "RUNNING", None, ""
        self.state = "RUNNING"

    def stage_finished(self, id: str, manifest: Mapping[str, Any], folder: Path, cached: bool) -> None:
        """Nothing happens when this very artifact is known already."""
        created, seconds = float(manifest["created"]), float(manifest["seconds"])
        started = int((created - seconds) * 1000)
        stage = self.stages.get(id)
        if stage is None:
            stage = self.stages[id] = StageRecord(state="RUNNING", started=started, cached=cached)
        elif stage.state == "FINISHED" and stage.created == created:
            stage.folder = str(folder)
            return
        elif stage.state == "FINISHED":
            stage = self._next_attempt(id, started)
        stage.state, stage.ended, stage.message = "FINISHED", int(created * 1000), ""
        stage.folder, stage.created, stage.seconds = str(folder), created, seconds
        stage.summary = dict(manifest.get("summary") or {})
        self.state = "RUNNING"

    def stage_failed(self, id: str, message: str) -> None:
        stage = self.stages.setdefault(id, StageRecord(state="FAILED", started=now_ms()))
        stage.state, stage.ended, stage.message = "FAILED", now_ms(), message
        self.state = "RUNNING"

    def stage_restarted(self, id: str) -> None:
        """Its journal began again: it was interrupted before its first checkpoint."""
        if id in self.stages:
            self.stages[id].attempt += 1
            self.state = "RUNNING"

    def finished(self, state: str, summary: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        for stage in self.stages.values():
            if stage.state == "RUNNING" or (stage.state == "FAILED" and state == "KILLED"):
                stage.state, stage.ended = "KILLED", stage.ended or now_ms()
        self.artifacts = [str(path.absolute()) for path in artifacts] or self.artifacts
        self.summary = dict(summary) or self.summary
        if self.state != state:  # else nothing was computed since it ended
            self.state, self.ended = state, now_ms()

    def _next_attempt(self, id: str, started: int) -> StageRecord:
        self.stages[id] = StageRecord(state="RUNNING", started=started, attempt=self.stages[id].attempt + 1)
        return self.stages[id]

    def save(self, path: Path) -> None:
        """Written by rename: never half a record."""
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False) + "\n", "utf-8")
        temporary.replace(path)


def load_record(path: Path) -> Record:
    """The record of an earlier run of the plan; a new one when there is none that can be read."""
    try:
        tree = json.loads(path.read_text("utf-8"))
        if tree.pop("format") != FORMAT:
            return Record()
        record = Record(**tree)
        record.stages = {id: StageRecord(**stage) for id, stage in tree["stages"].items()}
        runs = {id: SentRun(**run) for id, run in tree["sent"]["runs"].items()}
        record.sent = Sent(tree["sent"]["server"], runs)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Record()
    return record


def now_ms() -> int:
    return int(time.time() * 1000)
