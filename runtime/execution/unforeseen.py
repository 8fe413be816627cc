"""An unexpected exception -> a diagnosis: no memory, no space on the disk, else a fault of distilc."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ..failure import Failure

# torch on a GPU and ctranslate2; torch, MKL and the system on a CPU; C++ libraries.
_NO_MEMORY = re.compile(r"out of memory|(can't|cannot|failed to|unable to) allocate|bad_alloc", re.IGNORECASE)
# The system and Rust (safetensors, tokenizers); SQLite.
_NO_SPACE = re.compile(
    r"no space left on device|disk quota exceeded|\(os error (28|122)\)|database or disk is full", re.IGNORECASE
)
# torch.save and numpy say that a file could not be written, but not why.
_NOT_WRITTEN = re.compile(
    r"PytorchStreamWriter failed|inline_container\.cc.*unexpected pos|file write failed|\d+ requested and \d+ written"
)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_TRIED_BYTES = 1 << 20  # more than the free rest of blocks on a full disk


def unforeseen(error: Exception, *, memory: str, kept: Callable[[], str]) -> Failure:
    """The diagnosis of an error: R302 (memory), R402 (disk), R999 (any other).

    `memory`: what to type where memory ran out; `kept()`: where the traceback is, asked for R999 alone."""
    if is_full(error):
        return no_space(error)
    text = str(error).strip()
    said = text.splitlines()[0] if text else "no message"
    if _NOT_WRITTEN.search(text):
        return Failure("R402", f"a file could not be written whole: {said}",
                       "is the disk full? Make room, then run the same command again")  # fmt: skip
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return Failure("R302", f"out of memory: {said}", memory)
    return Failure("R999", f"{type(error).__name__}: {said}",
                   f"this is a fault of distilc; the traceback is in {kept()}")  # fmt: skip


def is_full(error: BaseException) -> bool:
    """Does an error, or one that it came from, say that a disk is full?"""
    return any(
        (isinstance(found, OSError) and found.errno in _FULL) or _NO_SPACE.search(str(found)) is not None
        for found in _chain(error)
    )


def no_space(error: BaseException) -> Failure:
    """R402, with the file where one is known."""
    names = (found.filename for found in _chain(error) if isinstance(found, OSError) and found.filename is not None)
    where = next(names, "the workspace")
    return Failure("R402", f"no space left on the disk of {where}", "make room, then run the same command again")


def try_space(folder: Path) -> None:
    """Raises `OSError`: nothing more can be written there. A process that ended on a full disk could not report it:
    there was no room for the report, and a write into a mapped file kills the process."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            file.write(os.urandom(_TRIED_BYTES))
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder)) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
