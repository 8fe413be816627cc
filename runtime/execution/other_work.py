"""Does anything else run on the cores of this process? A time measured beside other work says little about a model:
two threads that wait for each other at every layer are both as slow as the slower one."""

from __future__ import annotations

import os
import time

import psutil

QUIET = 0.25  # cores that others may use: a desktop, a few daemons
PATIENCE_SECONDS = 5.0
LOOK_SECONDS = 0.25


class OtherWork:
    """How many cores others have used since this was made; what a hypervisor gave to its other guests counts too."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._started, self._busy, self._own = self._now()

    def cores(self) -> float:
        """On average; at least 0.0. The clock of the kernel ticks every 10 ms: look after a tenth of a second."""
        at, busy, own = self._now()
        return max(0.0, (busy - self._busy) - (own - self._own)) / max(at - self._started, 1e-9)

    def _now(self) -> tuple[float, float, float]:
        """(clock, seconds our cores were busy, seconds of this process)."""
        every = psutil.cpu_times(percpu=True)
        ours = [every[core] for core in os.sched_getaffinity(0) if core < len(every)]
        own = self._process.cpu_times()
        return time.monotonic(), sum(map(_busy, ours)), own.user + own.system


def wait_until_quiet() -> None:
    """Return when nobody else uses our cores, or after some seconds (`PATIENCE_SECONDS`)."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        others = OtherWork()
        time.sleep(LOOK_SECONDS)
        if others.cores() <= QUIET:
            return


def _busy(core: object) -> float:
    names = ("user", "nice", "system", "irq", "softirq", "steal")  # `user` has the guests' time in it
    return sum(float(getattr(core, name, 0.0)) for name in names)
