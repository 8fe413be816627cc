"""The small files through which a driver and its workers speak: progress, warnings, failure, stop.

Files, because they also work when the driver, the launcher or a rank was killed, and on a shared disk. Every driver has
a folder of its own, `control/<time>-<chance>/` of the run: what is said to one is not said to another.
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
from .heartbeat import heartbeat, read_life

BY_HAND = "by-hand"  # the folder of workers that were started by hand: nobody's, and never taken away
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
        """While it lasts, the workers know that their driver is there."""
        with heartbeat(self.driver_file):
            yield

    def report_code(self, code: str) -> None:
        """Write down which code the driver has (code_identity.py), before workers are started."""
        (self.folder / CODE).write_text(code, "utf-8")

    def code(self) -> str | None:
        """That of the driver; None: it did not tell."""
        try:
            return (self.folder / CODE).read_text("utf-8")
        except OSError:
            return None

    def begin(self, rank: int) -> None:
        """A worker has come up: what ends it from now on it tells, or it is killed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"rank-{rank}").touch()

    def num_begun(self) -> int:
        """How many workers have come up."""
        return sum(1 for _ in self.folder.glob("rank-*"))

    def fail(self, failure: Failure) -> None:
        """Tell the driver. The first rank that fails is the one with something to say. Where the folder is gone,
        the driver sees that itself."""
        if not self.folder.is_dir():
            return
        record = {
            "code": failure.code,
            "message": failure.message,
            "hint": failure.hint,
            "spec_path": failure.spec_path,
            "exit_code": failure.exit_code,
        }
        temporary = self.failure_file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(record, allow_nan=False), "utf-8")
        try:
            os.link(temporary, self.failure_file)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()

    def failure(self) -> Failure | None:
        """What a worker told, if one did."""
        record = _read(self.failure_file)
        if record is None or not record.keys() >= {"code", "message", "hint", "spec_path", "exit_code"}:
            return None
        return Failure(
            record["code"],
            record["message"],
            record["hint"],
            spec_path=record["spec_path"],
            exit_code=record["exit_code"],
        )

    def warnings(self) -> list[dict[str, Any]]:
        """What workers noticed so far, in order: {code, message, hint, spec_path}."""
        return read_notices(self.warnings_file)

    def progress(self) -> dict[str, Any] | None:
        """Where the current stage stands: {stage, title, done, total, unit, note}."""
        return _read(self.progress_file)


def make_control(run_folder: Path) -> Control:
    """A control folder for a driver that begins. Those of drivers that ended are taken away. Raises `OSError`."""
    for folder in _control_folders(run_folder):
        with suppress(OSError):
            driver = read_life(folder / "driver.json")
            kept_seconds = KEPT_AFTER_END_SECONDS if driver is None else KEPT_SECONDS
            alive = driver is not None and driver.here and driver.running
            if not alive and abs(time.time() - folder.stat().st_mtime) > kept_seconds:
                shutil.rmtree(folder)
    folder = run_folder / "control" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    return Control(folder)


def latest_control(run_folder: Path) -> Control | None:
    """That of the driver, of this run, that was heard of last."""
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
