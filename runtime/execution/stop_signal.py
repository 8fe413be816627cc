"""Ctrl-C and SIGTERM at the driver, as a request that the workers agree on.

The workers do not see the signals: they live in a session of their own. They see a file.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

KILL_AFTER_SECONDS = 600.0  # after a stop request, for workers that do not end


class StopSignal:
    """The signals that the driver has got from the user or the scheduler."""

    def __init__(self) -> None:
        self.requests = 0
        self.since = 0.0
        self.by_scheduler = False

    def expired(self) -> bool:
        """Is it time to kill: asked twice, or asked long ago?"""
        return self.requests > 1 or (self.requests == 1 and time.monotonic() - self.since > KILL_AFTER_SECONDS)


@contextmanager
def stop_on_signal(stop_file: Path, say: Callable[[str], None], *, raise_again: bool) -> Iterator[StopSignal]:
    """Within it, a first signal makes the stop file, a second one means kill. `raise_again`: the second one
    raises KeyboardInterrupt (when the work is done in this very process).

    Signals are handled in a thread of their own, at once: the main one may be in a library call that does not return.
    """
    wanted = StopSignal()
    calls = 0

    def listen() -> None:
        while number := os.read(hearing, 1):
            if number[0] not in before:
                continue  # another signal
            wanted.by_scheduler = number[0] == signal.SIGTERM
            wanted.since = time.monotonic()
            wanted.requests += 1
            with suppress(OSError):  # a second signal must count even if the disk is full or the terminal is gone
                stop_file.touch()
                if wanted.requests == 1:
                    say("stopping at the next step and saving; once more to kill at once")

    def in_main_thread(_: int, __: FrameType | None) -> None:
        nonlocal calls
        calls += 1
        if calls > 1 and raise_again:
            raise KeyboardInterrupt

    hearing, telling = os.pipe()
    os.set_blocking(telling, False)
    before = {number: signal.signal(number, in_main_thread) for number in (signal.SIGINT, signal.SIGTERM)}
    told_before = signal.set_wakeup_fd(telling, warn_on_full_buffer=False)
    listener = threading.Thread(target=listen, daemon=True, name="signals")
    listener.start()
    try:
        yield wanted
    finally:
        signal.set_wakeup_fd(told_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(telling)  # what is in the pipe is still read
        listener.join()
        os.close(hearing)
