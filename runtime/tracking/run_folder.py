"""What a run writes down as it happens: the journal, the record and the log of its folder.

Only one process writes a run folder at a time. A second one on the same plan keeps what it is told in memory
and takes over when the first is gone.
"""

from __future__ import annotations

import copy
import fcntl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from ..messages.credentials import redact
from ..messages.terminal import clean
from .journal import SYSTEM, Journal, Line
from .record import Record, Sent, load_record, now_ms


class RunFolder:
    """Everything here may be called from any thread. `poll` may raise `OSError`; nothing is lost then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mutex = threading.RLock()
        self._events: deque[Callable[[Record], None]] = deque()
        self._followed: dict[str, Path] = {}
        self._lock: IO[str] | None = None
        self._record = Record()
        self._journal: Journal | None = None
        self._last_note = ""

    @property
    def is_mine(self) -> bool:
        """Does this process write the run folder?"""
        return self._journal is not None

    def put(self, event: Callable[[Record], None]) -> None:
        """Something happened; it is written down by the next `poll`."""
        self._events.append(event)

    def follow(self, stage: str, journal: Path) -> None:
        """Copy this stage's metric lines from now on from `journal`."""
        with self._mutex:
            self._followed[stage] = journal

    def poll(self) -> None:
        """Write down what happened since the last time."""
        with self._mutex:
            if self._journal is None and not self._open():
                return
            assert self._journal is not None
            changed = bool(self._events)
            before = {id: stage.attempt for id, stage in self._record.stages.items()}
            while self._events:
                self._events[0](self._record)
                self._events.popleft()
            if changed:
                self._save()
            for id, attempt in before.items():
                if self._record.stages[id].attempt != attempt:
                    self._journal.drop(id)
            changed = False
            for id, source in self._followed.items():
                if self._journal.copy_from(id, source):
                    self._record.stage_restarted(id)
                    changed = True
                if id not in self._record.stages and id in self._journal.num_lines():
                    self._record.stage_started(id)
                    changed = True
            if changed:
                self._save()

    def add_system(self, metrics: Mapping[str, float]) -> None:
        """Append measurements of the machine to the stage that runs; names without the prefix."""
        with self._mutex:
            running = [id for id, stage in self._record.stages.items() if stage.state == "RUNNING"]
            if self._journal is None or not running or not metrics:
                return
            stage = running[-1]
            step = self._journal.num_system_lines(stage)
            named = {SYSTEM + name: value for name, value in metrics.items()}
            self._journal.append([{"time": now_ms(), "step": step, "stage": stage, "metrics": named}])

    def commit(self, sent: Sent) -> None:
        """Write down what the server was told."""
        with self._mutex:
            self._record.sent = copy.deepcopy(sent)
            if self._journal is not None:
                self._save()

    def record(self) -> Record:
        """A copy of the record."""
        with self._mutex:
            return load_record(self.path / "tracking.json") if self._journal is None else copy.deepcopy(self._record)

    def lines(self, stage: str, attempt: int, start: int, count: int) -> list[Line]:
        """Up to `count` lines of an attempt at a stage from line `start` on; none where there is a later attempt."""
        with self._mutex:
            if self._journal is None or self._record.stages[stage].attempt != attempt:
                return []
            return self._journal.lines(stage, start, count)

    def num_lines(self) -> dict[str, int]:
        with self._mutex:
            return {} if self._journal is None else self._journal.num_lines()

    def note(self, text: str) -> None:
        """A line in `tracking.log`; the same line is not written twice in a row."""
        text = clean(redact(text))
        with self._mutex:
            if text == self._last_note:
                return
            self._last_note = text
            try:
                with (self.path / "tracking.log").open("a", encoding="utf-8") as log:
                    log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}\n")
            except OSError:
                return  # the warning at the end of the run says it as well

    def close(self) -> None:
        """Let another process have the run folder."""
        with self._mutex:
            self._journal = None
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def _open(self) -> bool:
        self.path.mkdir(parents=True, exist_ok=True)
        lock = (self.path / "tracking.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        self._record = load_record(self.path / "tracking.json")
        self._journal = Journal(self.path / "metrics.jsonl")
        for stage in self._journal.num_lines():
            if stage not in self._record.stages:
                self._record.stage_started(stage)
        return True

    def _save(self) -> None:
        self._record.save(self.path / "tracking.json")
