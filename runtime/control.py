"""The small files through which a driver and its workers speak: progress, warnings, failure, stop.

Files, because they also work when the driver, the launcher or a rank was killed, and on a shared disk.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .failure import Failure
from .notices import FILE, read_notices


class Control:
    """The control folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stop_file = folder / "stop"
        self.progress_file = folder / "progress.json"
        self.failure_file = folder / "failure.json"
        self.warnings_file = folder / FILE

    def clear(self) -> None:
        """Make the folder ready for a new launch (driver only)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in (self.stop_file, self.progress_file, self.failure_file, self.warnings_file):
            file.unlink(missing_ok=True)

    def fail(self, failure: Failure) -> None:
        """Tell the driver. The first rank that fails is the one with something to say."""
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
        if record is None:
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


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
