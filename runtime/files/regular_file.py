"""Opens files of users: only regular ones. Opening a pipe blocks, reading a device never ends, and either can lie in
a folder that came from others."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


def open_regular(path: Path) -> BufferedReader:
    """The file, open for reading bytes. Raises `OSError`: as `open` does, or it is a pipe, a device, a socket or a
    folder."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # does not wait for the other end of a pipe
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(handle, "rb")


def irregular(folder: Path) -> Path | None:
    """The first entry of a folder that is neither a regular file nor a folder, links followed; None: there is none."""
    for entry in sorted(folder.iterdir()):
        if entry.exists() and not entry.is_file() and not entry.is_dir():
            return entry
    return None
