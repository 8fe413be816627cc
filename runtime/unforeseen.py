"""An error that nothing foresaw -> a diagnosis: no memory, no space on the disk, else a fault of distilc."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable

from .failure import Failure

# torch on a GPU and ctranslate2; torch, MKL and the system on a CPU; C++ libraries.
_NO_MEMORY = re.compile(r"out of memory|(can't|cannot|failed to|unable to) allocate|bad_alloc", re.IGNORECASE)


def unforeseen(error: Exception, *, memory: str, kept: Callable[[], str]) -> Failure:
    """The diagnosis of an error: R302 (memory), R402 (disk), R999 (any other).

    `memory`: what to type where memory ran out; `kept()`: where the traceback is, asked for R999 alone."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure("R402", f"no space left on the disk of {error.filename or 'the workspace'}",
                       "make room, then run the same command again")  # fmt: skip
    text = str(error).strip()
    said = text.splitlines()[0] if text else "no message"
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return Failure("R302", f"out of memory: {said}", memory)
    return Failure("R999", f"{type(error).__name__}: {said}",
                   f"this is a fault of distilc; the traceback is in {kept()}")  # fmt: skip
