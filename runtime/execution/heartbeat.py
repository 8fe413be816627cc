"""Who lives: the small record that a process renews while it is at work, and how others judge by it.

On the machine of the process its process table decides, at once. Any other machine sees the record alone, on a disk
that both have: there a process lives as long as its record changes. What is compared are contents, over time, on the
observer's own monotonic clock: clocks of two machines differ, and are set back.
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
class Life:
    """A process: where it is (`boot` names a boot of a machine and a space of pids in it, `started` is in clock ticks
    since that boot), and how often it said so. `heartbeat`: when it did last, by its own clock."""

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

    def is_process_of(self, other: Life) -> bool:
        """Is that the same process, at whatever beat?"""
        return replace(self, beat=0, heartbeat=0.0) == replace(other, beat=0, heartbeat=0.0)


def this_process() -> Life:
    return Life(socket.gethostname(), _boot(), os.getpid(), process_start(os.getpid()) or "")


def read_life(path: Path) -> Life | None:
    """The record of a process; None: there is none, or it is damaged, and tells of nobody."""
    try:
        record = json.loads(path.read_text("utf-8"))
        life = Life(**{field.name: record[field.name] for field in fields(Life) if field.name in record})
        life = replace(life, heartbeat=float(life.heartbeat))
    except (OSError, ValueError, TypeError, OverflowError, RecursionError):
        return None
    words, numbers = (life.host, life.boot, life.started), (life.pid, life.beat)
    return life if all(type(word) is str for word in words) and all(type(n) is int for n in numbers) else None


def write_life(path: Path, life: Life) -> None:
    """Replace the record, so that a reader sees the old one or the new one. Raises `OSError`."""
    with _written_beside(path, life) as temporary:
        temporary.replace(path)


def claim(path: Path) -> bool:
    """Put down the record of this process where there is none; says whether there was none. Raises `OSError`."""
    with _written_beside(path, this_process()) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    return True


@contextmanager
def _written_beside(path: Path, life: Life) -> Iterator[Path]:
    temporary = path.with_suffix(f".{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}")
    try:
        temporary.write_text(json.dumps(asdict(replace(life, heartbeat=time.time())), allow_nan=False), "utf-8")
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def heartbeat(path: Path, lost: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Renew the record of this process, and take it away at the end. `lost` is called, once, in a thread of its own,
    when another process has put itself into this one's place."""
    life, over = this_process(), threading.Event()

    def beat() -> None:
        number = 0
        while not over.wait(BEAT_SECONDS):
            number += 1
            holder = read_life(path)
            if holder is not None and not holder.is_process_of(life):
                lost()
                return
            with suppress(OSError):  # a disk that is full or away for a while: the next beat may do
                write_life(path, replace(life, beat=number))

    write_life(path, life)
    thread = threading.Thread(target=beat, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        holder = read_life(path)
        if holder is None or holder.is_process_of(life):
            with suppress(OSError):
                path.unlink()


class Watch:
    """Judges the record of another process again and again: does it live? On this machine that is known at once; on
    another it lives until its record has not changed for `silence_seconds`."""

    def __init__(self, path: Path, silence_seconds: float) -> None:
        self._path = path
        self._silence_seconds = silence_seconds
        self._seen: Life | None = None
        self._changed = time.monotonic()

    def lives(self) -> bool:
        """A record that cannot be read (any more) is one that does not change."""
        life = read_life(self._path)
        if life is not None and life.here:
            return life.running
        if life is not None and life != self._seen:
            self._seen, self._changed = life, time.monotonic()
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
