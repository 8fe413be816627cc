"""Ctrl-C and SIGTERM at the driver, as a request that the workers agree on.

The workers do not see the signals: they live in a session of their own. They see a file.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

KILL_AFTER_SECONDS = 600.0  # from a stop request to the end of patience


class StopSignal:
    """What the user or the scheduler wants, as far as the driver was told."""

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
    raises KeyboardInterrupt (when the work is done in this very process)."""
    wanted = StopSignal()

    def request(number: int, _: FrameType | None) -> None:
        wanted.requests += 1
        wanted.since = time.monotonic()
        wanted.by_scheduler = number == signal.SIGTERM
        stop_file.touch()
        if wanted.requests == 1:
            say("stopping at the next step and saving; once more to kill at once")
        elif raise_again:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wanted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
