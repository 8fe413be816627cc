"""The small files through which a driver and its workers communicate: progress, warnings, failure, stop.

Files, because they also work when the driver, the launcher or a rank was killed, and on a shared disk. Every driver has
a folder of its own, `control/<time>-<random>/` of the run.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..failure import Failure
from ..messages.notices import FILE, read_notices
from .heartbeat import heartbeat, read_process

BY_HAND = "by-hand"  # the folder of workers that were started by hand; it has no driver and is never removed
CODE = "code"
KEPT_SECONDS = 24 * 3600.0  # the folder of a driver that was killed: its workers may still be writing into it
KEPT_AFTER_END_SECONDS = 60.0  # of one that ended well


class Control:
    """The control folder of one driver."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.driver_file = folder / "driver.json"
        self.stop_file = folder / "stop"
        self.progress_file = folder / "progress.json"
        self.failure_file = folder / "failure.json"
        self.warnings_file = folder / FILE

    @property
    def log_file(self) -> Path:
        """The log of what this driver started, in the run folder."""
        return self.folder.parents[1] / "logs" / f"{self.folder.name}.log"

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Within it, the workers see that their driver is alive."""
        with heartbeat(self.driver_file):
            yield

    def report_code(self, code: str) -> None:
        """Write down which code the driver has (code_identity.py), before workers are started."""
        (self.folder / CODE).write_text(code, "utf-8")

    def code(self) -> str | None:
        """The code of the driver; None: it did not report any."""
        try:
            return (self.folder / CODE).read_text("utf-8")
        except OSError:
            return None

    def begin(self, rank: int) -> None:
        """A worker has started: from now on it reports its own failures, unless it is killed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"rank-{rank}").touch()

    def num_begun(self) -> int:
        """How many workers have started."""
        return sum(1 for _ in self.folder.glob("rank-*"))

    def fail(self, failure: Failure) -> None:
        """Report a failure to the driver. The first rank that fails wins: the others fail because of it. Where the
        folder is gone, the driver sees that itself."""
        if not self.folder.is_dir():
            return
        temporary = self.failure_file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(failure.record(), allow_nan=False), "utf-8")
        try:
            os.link(temporary, self.failure_file)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()

    def failure(self) -> Failure | None:
        """What a worker reported; None: nothing."""
        record = _read(self.failure_file)
        if record is None:
            return None
        with suppress(KeyError):  # of something else
            return Failure.of(record)
        return None

    def warnings(self) -> list[dict[str, Any]]:
        """What workers noticed so far, in order: {code, message, hint, spec_path}."""
        return read_notices(self.warnings_file)

    def progress(self) -> dict[str, Any] | None:
        """Where the current stage stands: {stage, title, done, total, unit, note}."""
        return _read(self.progress_file)


def make_control(run_folder: Path) -> Control:
    """A control folder for a driver that begins. Those of drivers that ended are removed. Raises `OSError`."""
    for folder in _control_folders(run_folder):
        with suppress(OSError):
            driver = read_process(folder / "driver.json")
            kept_seconds = KEPT_AFTER_END_SECONDS if driver is None else KEPT_SECONDS
            alive = driver is not None and driver.here and driver.running
            if not alive and abs(time.time() - folder.stat().st_mtime) > kept_seconds:
                shutil.rmtree(folder)
    folder = run_folder / "control" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    return Control(folder)


def latest_control(run_folder: Path) -> Control | None:
    """The control folder of this run that was written last; None: there is none."""
    folders = [*_control_folders(run_folder), run_folder / "control" / BY_HAND]
    there = [folder for folder in folders if folder.is_dir()]
    return Control(max(there, key=lambda folder: folder.stat().st_mtime)) if there else None


def _control_folders(run_folder: Path) -> list[Path]:
    return [folder for folder in (run_folder / "control").glob("*-*-*") if folder.is_dir()]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
