"""What every benchmark measures with: a line of the table, and wall times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table. `met` None: there is no goal."""

    what: str
    measured: str
    goal: str
    met: bool | None


def median_seconds(action: Callable[[], Any], times: int) -> float:
    """Median wall time of an action."""
    return statistics.median(seconds_of(action) for _ in range(times))


def seconds_of(action: Callable[[], Any]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
