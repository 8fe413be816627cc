"""Files of users, opened: only regular ones. A pipe would be waited for without end, a device has no end, and
either can lie in a folder that came from others."""

from __future__ import annotations

import errno
import json
import os
import stat
from os.path import exists, isdir, isfile
from pathlib import Path
from typing import Any, BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """The file, open for reading bytes. Raises `OSError`: as `open` does, or it is a pipe, a device, a socket or a
    folder."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # does not wait for the other end of a pipe
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(handle, "rb")


def json_mapping(path: Path, most: int = -1) -> dict[str, Any]:
    """The JSON object in a file, of at most so many bytes; empty: there is none that can be read."""
    try:
        with open_regular(path) as file:
            found = json.loads(file.read(most))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def irregular(folder: Path) -> Path | None:
    """The first entry of a folder that is neither a regular file nor a folder, links followed; None: there is none."""
    for entry in sorted(folder.iterdir()):
        if exists(entry) and not isfile(entry) and not isdir(entry):
            return entry
    return None


def real_path(path: Path | str) -> Path:
    """The path, absolute and with its links followed, as far as that can be done: a circle of links stays one."""
    try:
        return Path(os.path.realpath(path))
    except OSError:
        return Path(os.path.abspath(path))


def why_not(path: Path) -> str:
    """Why a path is no file that can be read, in words that follow its name."""
    if isdir(path):
        return "is a folder"
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "is a broken link" if os.path.islink(path) else "does not exist"
    except OSError as error:  # a circle of links, a folder that may not be looked into
        return f"cannot be reached: {error.strerror}"
    return "is a pipe, a device or a socket"
