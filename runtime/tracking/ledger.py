"""What happens in a run, written down as it happens: the journal and the record of one run folder.

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
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..messages.credentials import redact
from ..messages.terminal import clean
from .record import Record, Sent, load_record, now_ms
from .run_journal import SYSTEM, Line, RunJournal, read_lines

CHUNK_LINES = 2000


@dataclass(frozen=True)
class Snapshot:
    """A consistent view of the record; `num_lines`: stage id -> lines in the journal of `generation`."""

    record: Record
    generation: int
    num_lines: Mapping[str, int]


class Ledger:
    """Everything here may be called from any thread. `poll` may raise `OSError`; nothing is lost then."""

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = run_folder
        self._mutex = threading.RLock()
        self._events: deque[Callable[[Record], None]] = deque()
        self._followed: dict[str, Path] = {}
        self._lock: IO[str] | None = None
        self._record = Record()
        self._journal: RunJournal | None = None
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
            changed = bool(self._events)
            while self._events:
                self._events[0](self._record)
                self._events.popleft()
            assert self._journal is not None
            for id, known in self._record.stages.items():
                if known.renewed:
                    self._journal.drop(id)
                    known.renewed, changed = False, True
            for stage, source in self._followed.items():
                if self._journal.copy_from(stage, source):
                    self._record.stage_anew(stage)
                    changed = True
                if stage not in self._record.stages and self._journal.num_lines().get(stage):
                    self._record.stage_started(stage)
                    changed = True
            if changed:
                self.save()

    def add_system(self, stage: str, metrics: Mapping[str, float]) -> None:
        """Append measurements of the machine; names without the prefix."""
        with self._mutex:
            if self._journal is None or not metrics:
                return
            step = self._journal.num_system_lines(stage)
            named = {SYSTEM + name: value for name, value in metrics.items()}
            self._journal.append([{"time": now_ms(), "step": step, "stage": stage, "metrics": named}])

    def running_stage(self) -> str | None:
        with self._mutex:
            running = [id for id, stage in self._record.stages.items() if stage.state == "RUNNING"]
            return running[-1] if running else None

    def sent(self, server: str) -> Sent:
        """A copy of what a server was told."""
        with self._mutex:
            return copy.deepcopy(self._record.servers.get(server)) or Sent()

    def commit(self, server: str, sent: Sent) -> None:
        """Write down what a server was told."""
        with self._mutex:
            self._record.servers[server] = copy.deepcopy(sent)
            self.save()

    def snapshot(self) -> Snapshot:
        with self._mutex:
            if self._journal is None:
                return Snapshot(copy.deepcopy(load_record(self.run_folder / "tracking.json")), 0, {})
            return Snapshot(copy.deepcopy(self._record), self._journal.generation, self._journal.num_lines())

    def lines(self, position: int, generation: int) -> tuple[list[Line], int] | None:
        """Up to CHUNK_LINES lines of the journal and the position after them; None: it is another journal by
        now (see `RunJournal.generation`)."""
        with self._mutex:
            if self._journal is None or self._journal.generation != generation:
                return None
            lines: list[Line] = []
            for end, line in read_lines(self._journal.path, position):
                lines.append(line)
                position = end
                if len(lines) == CHUNK_LINES:
                    break
            return lines, position

    def save(self) -> None:
        with self._mutex:
            if self._journal is not None:
                self._record.save(self.run_folder / "tracking.json")

    def note(self, text: str) -> None:
        """A line in `tracking.log`; the same line is not written twice in a row."""
        text = clean(redact(text))
        with self._mutex:
            if text == self._last_note:
                return
            self._last_note = text
            try:
                with (self.run_folder / "tracking.log").open("a", encoding="utf-8") as log:
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
        self.run_folder.mkdir(parents=True, exist_ok=True)
        lock = (self.run_folder / "tracking.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        self._record = load_record(self.run_folder / "tracking.json")
        self._journal = RunJournal(self.run_folder / "metrics.jsonl")
        for stage in self._journal.num_lines():
            if stage not in self._record.stages:
                self._record.stage_started(stage)
        return True
