"""Tells the run folder and MLflow what a run does, in a thread of its own.

The driver calls, and goes on at once: nothing here blocks it (but `finish`, for as long as it is told to)
and nothing raises into it. What cannot be sent waits on disk for the next run of the same plan.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..messages.credentials import redact
from ..plan.plan import Plan, Stage
from .machine import Machine
from .run_folder import RunFolder
from .sender import Sender
from .server import database_fault, tracking_uri

POLL_SECONDS = 0.5
SYNC_SECONDS = 5.0
SYSTEM_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 120.0
TOO_LITTLE_TIME = "it had too little time"


@dataclass(frozen=True)
class TrackingResult:
    """`uri` is without credentials; `pending`: metric lines, files and runs that the server does not know
    yet; `message` says so, or what else went wrong, or is empty."""

    run_id: str | None
    uri: str
    pending: int
    message: str


class Tracker:
    """One run of a plan. `run_folder` holds the compiled plan; metrics.jsonl and tracking.json are written
    beside it."""

    def __init__(self, plan: Plan, run_folder: Path, workspace: Path) -> None:
        self._folder = RunFolder(run_folder)
        uri = tracking_uri(plan.site.tracking.uri, workspace)
        self._uri = redact(uri)
        self._sender = Sender(plan, uri, workspace, self._folder)
        self._started: set[str] = set()
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._error = ""
        self._unwritten = ""  # why the run folder could not be written the last time
        self._thread = threading.Thread(target=self._work, daemon=True, name="tracking")

    @property
    def run_id(self) -> str | None:
        """The MLflow run, as soon as the server has answered."""
        return self._sender.run_id

    def start(self) -> None:
        self._thread.start()

    def stage_started(self, stage: Stage) -> None:
        """A worker is at work on the stage. May be called any number of times."""
        if stage.id not in self._started:
            self._started.add(stage.id)
            self._folder.put(lambda record: record.stage_started(stage.id))

    def follow(self, stage_id: str, journal_path: Path) -> None:
        """Copy a stage's metric lines as they are written; the file may not exist yet."""
        self._folder.follow(stage_id, journal_path)

    def stage_finished(self, stage_id: str, manifest: Mapping[str, Any], folder: Path, cached: bool) -> None:
        """The stage's artifact is published in `folder`, now or (cached) before this run."""
        self._started.add(stage_id)
        self._folder.follow(stage_id, folder / "metrics.jsonl")
        self._folder.put(lambda record: record.stage_finished(stage_id, manifest, folder, cached))

    def stage_failed(self, stage_id: str, message: str) -> None:
        self._folder.put(lambda record: record.stage_failed(stage_id, message))

    def finish(
        self,
        status: Literal["FINISHED", "FAILED", "KILLED"],
        summary: Mapping[str, Any],
        artifacts: Sequence[Path],
        wait_seconds: float,
    ) -> TrackingResult:
        """The run is over: write all of it down, and wait for the server, but not longer than told, and not
        at all for one that does not answer."""
        try:
            self._folder.put(lambda record: record.finished(status, summary, artifacts))
            self._folder.poll()
        except Exception as error:
            self._unwritten = f"cannot write {self._folder.path}: {error}"
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(wait_seconds)
        try:
            return self._result()
        except Exception as error:
            return TrackingResult(self.run_id, self._uri, 1, f"tracking: {redact(str(error))}")
        finally:
            if not self._thread.is_alive():
                self._folder.close()

    def _result(self) -> TrackingResult:
        sent = self._folder.record().sent
        known = sent.runs.get("") if sent.server == self._sender.server else None
        run_id = self.run_id or (None if known is None else known.run_id)
        if not self._folder.is_mine:
            other = f"another process writes {self._folder.path}; it does the tracking"
            failed = self._unwritten or self._error
            return TrackingResult(run_id, self._uri, 1 if failed else 0, failed or other)
        lines, files, runs = self._sender.pending()
        if self._unwritten:
            return TrackingResult(run_id, self._uri, max(1, lines + files + runs), self._unwritten)
        reason = self._error or (self._unsent() if self._thread.is_alive() else "")
        if lines + files + runs == 0:
            what = f"the tracking server {self._uri} could not be asked whether it still has what it was sent"
            return TrackingResult(run_id, self._uri, 0, f"{what} ({reason})" if reason else "")
        reason = reason or TOO_LITTLE_TIME
        message = (
            f"{lines} metric lines and {files} files did not reach the tracking server {self._uri} "
            f"({reason}); they wait in {self._folder.path}, the same command sends them"
        )
        return TrackingResult(run_id, self._uri, lines + files + runs, message)

    def _unsent(self) -> str:
        """Why the thread has not come to its end, as far as a look at the database tells."""
        return database_fault(self._sender.uri, self._sender.plan.tracking.experiment) or TOO_LITTLE_TIME

    # --- the thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        machine = _machine()
        next_sync = next_sample = time.monotonic()
        next_sample += SYSTEM_SECONDS / 2
        pause = SYNC_SECONDS
        while True:
            closing = self._closing.is_set()
            error = self._error
            if self._guarded(self._folder.poll, "cannot write the run folder"):
                self._unwritten = ""
            else:
                self._unwritten, self._error = self._error, error
            now = time.monotonic()
            if machine is not None and now >= next_sample and not closing:
                next_sample = now + SYSTEM_SECONDS
                self._guarded(lambda: self._folder.add_system(machine.sample()), "cannot measure the machine")
            if self._folder.is_mine and (now >= next_sync or closing):
                if self._guarded(self._sender.sync, ""):
                    pause, self._error = SYNC_SECONDS, ""
                else:
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                next_sync = time.monotonic() + pause
            if closing:
                return
            self._wake.wait(POLL_SECONDS)

    def _guarded(self, action: Any, what: str) -> bool:
        try:
            action()
        except Exception as error:  # tracking never ends a run
            text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            self._error = redact(f"{what}: {text}" if what else text)[:300]
            self._folder.note(f"{type(error).__name__}: {error}")
            return False
        return True


def _machine() -> Machine | None:
    try:
        return Machine()
    except Exception:
        return None
