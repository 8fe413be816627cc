"""Which processes are alive: the small record that a process renews while it works, and how others read it.

On the machine of the process its process table decides, at once. Any other machine sees the record alone, on a disk
that both have: there a process is alive as long as its record changes. The contents are compared over time, on the
observer's own monotonic clock: the clocks of two machines differ, and may be set back.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

BEAT_SECONDS = 2.0


@dataclass(frozen=True)
class ProcessRecord:
    """A process: where it is (`boot` names a boot of a machine and a space of pids in it, `started` is in clock ticks
    since that boot), and how often it has renewed its record. `heartbeat`: when it did so last, in seconds of its own
    clock."""

    host: str
    boot: str
    pid: int
    started: str
    beat: int = 0
    heartbeat: float = 0.0

    @property
    def here(self) -> bool:
        """Is its pid one of those that this process sees?"""
        return (self.host, self.boot) == (socket.gethostname(), _boot())

    @property
    def running(self) -> bool:
        """Is it alive, by the process table? Of a process that is `here` only."""
        return process_start(self.pid) == self.started

    def is_process_of(self, other: ProcessRecord) -> bool:
        """Is that the same process, at whatever beat?"""
        return replace(self, beat=0, heartbeat=0.0) == replace(other, beat=0, heartbeat=0.0)


_FIELDS = tuple(field.name for field in fields(ProcessRecord))


def this_process() -> ProcessRecord:
    return ProcessRecord(socket.gethostname(), _boot(), os.getpid(), process_start(os.getpid()) or "")


def read_process(path: Path) -> ProcessRecord | None:
    """The record of a process; None: there is none, or it is damaged."""
    try:
        record = json.loads(path.read_text("utf-8"))
        process = ProcessRecord(**{name: record[name] for name in _FIELDS if name in record})
        process = replace(process, heartbeat=float(process.heartbeat))
    except (OSError, ValueError, TypeError, OverflowError, RecursionError):
        return None
    words, numbers = (process.host, process.boot, process.started), (process.pid, process.beat)
    return process if all(type(word) is str for word in words) and all(type(n) is int for n in numbers) else None


def write_process(path: Path, process: ProcessRecord) -> None:
    """Replace the record, so that a reader sees the old one or the new one. Raises `OSError`."""
    with _written_beside(path, process) as temporary:
        temporary.replace(path)


def claim(path: Path) -> bool:
    """Write the record of this process where there is none. Returns whether there was none. Raises `OSError`."""
    with _written_beside(path, this_process()) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    return True


@contextmanager
def _written_beside(path: Path, process: ProcessRecord) -> Iterator[Path]:
    temporary = path.with_suffix(f".{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}")
    try:
        temporary.write_text(json.dumps(asdict(replace(process, heartbeat=time.time())), allow_nan=False), "utf-8")
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def heartbeat(path: Path, lost: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Renew the record of this process, and remove it at the end. `lost` is called, once, in a thread of its own, when
    the record has become that of another process."""
    process, over = this_process(), threading.Event()

    def beat() -> None:
        number = 0
        while not over.wait(BEAT_SECONDS):
            number += 1
            holder = read_process(path)
            if holder is not None and not holder.is_process_of(process):
                lost()
                return
            with suppress(OSError):  # a disk that is full or away for a while: the next beat may do
                write_process(path, replace(process, beat=number))

    write_process(path, process)
    thread = threading.Thread(target=beat, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        holder = read_process(path)
        if holder is None or holder.is_process_of(process):
            with suppress(OSError):
                path.unlink()


class Watch:
    """Is another process alive? Asked repeatedly, from its record. On this machine that is known at once; on
    another machine it is alive until its record has not changed for `silence_seconds`."""

    def __init__(self, path: Path, silence_seconds: float) -> None:
        self._path = path
        self._silence_seconds = silence_seconds
        self._seen: ProcessRecord | None = None
        self._changed = time.monotonic()

    def alive(self) -> bool:
        """A record that cannot be read (any more) is one that does not change."""
        process = read_process(self._path)
        if process is not None and process.here:
            return process.running
        if process is not None and process != self._seen:
            self._seen, self._changed = process, time.monotonic()
        return time.monotonic() - self._changed < self._silence_seconds


def process_start(pid: int) -> str | None:
    """The start time of a process in clock ticks since boot (field 22 of stat); None: no such process (any more).

    With the pid it names a process: a pid alone may have been given to another one since."""
    try:
        fields_of_stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields_of_stat[0] == "Z" else fields_of_stat[19]


def _boot() -> str:
    """Names this boot of the machine and the space of pids that this process sees: containers have their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
