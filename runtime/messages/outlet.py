"""Standard output and error that may fail: when the reader goes or the disk is full, the output ends, not the work."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys


class Outlet(io.FileIO):
    """The file behind standard output or standard error. Once nothing can be written to it any more, all goes to
    /dev/null, what libraries and child processes write as well; `lost` is why."""

    lost: OSError | None = None

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            if error.errno == errno.EAGAIN:
                raise
            self.lost = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes  # type: ignore[arg-type]


def open_outlets() -> None:
    """Put outlets behind `sys.stdout` and `sys.stderr`. One that was closed from the start (`>&-`) is /dev/null, so
    that no other file gets its number. What the encoding of the reader does not have is written as an escape."""
    codecs.register_error("json-escape", _escaped)
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        before = getattr(sys, name)
        raw = Outlet(number, "w", closefd=False)
        stream = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=before.encoding if before is not None else "utf-8",
            errors="json-escape",
            newline="\n",
            line_buffering=number == 2 or raw.isatty(),
        )
        setattr(sys, name, stream)


def lost_output() -> OSError | None:
    """Why standard output can no longer be written; None: it can."""
    buffer = getattr(sys.stdout, "buffer", None)
    if isinstance(raw := getattr(buffer, "raw", None), Outlet):
        sys.stdout.flush()
        return raw.lost
    return None


def exit_code(code: int, *, is_product: bool = True) -> int:
    """The exit code of a process that ends with `code`. A reader that has gone had what it wanted; output that could
    not be written is an error where it is what the command is for (`is_product`)."""
    error = lost_output()
    if error is None or error.errno == errno.EPIPE:
        return code
    print(f"error: cannot write to standard output: {error.strerror}", file=sys.stderr, flush=True)
    return code or int(is_product)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """`\\u00e9`: an escape of JSON, too."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)), error.end
