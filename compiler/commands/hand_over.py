"""The way from the compile half to the run half."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def hand_over(arguments: Sequence[str]) -> NoReturn:
    """Become the runtime. The two halves share no code; they meet in plan.json."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "distilc.runtime", *arguments])
