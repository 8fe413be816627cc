"""What a stage gets: its folder, its inputs, its ranks, its journal, its warnings and its progress bar.

What is done with it is the `run` of a `protocol.StageKind`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files.integrity import Hashes, sync, write_durably
from ..messages.notices import Notices
from ..plan.plan import Plan, Stage


@dataclass(kw_only=True)
class Context:
    """`folder` is kept across interruptions, so a stage may leave there what it resumes from; it is published as it
    is when `run` returns. `scratch`: kept until then, and not published. `inputs`: role -> the needed artifact's
    folder. `hashes`: of files outside the store that the stage names."""

    plan: Plan
    stage: Stage
    folder: Path
    scratch: Path
    inputs: Mapping[str, Path]
    rank: int
    world: int
    device: str
    journal: Journal
    progress: Progress
    stop_requested: Callable[[], bool] = field(default=lambda: False)
    notices: Notices = field(default_factory=Notices)  # warnings that stop nothing
    hashes: Hashes = field(default_factory=Hashes)

    @property
    def is_rank_zero(self) -> bool:
        """Is this rank 0, the one that writes?"""
        return self.rank == 0

    def barrier(self) -> None:
        """All ranks wait for each other (parallel stages only)."""
        self.gather(None)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in rank order, on every rank. Small Python objects only."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=control_group())
        return values


_control_group: Any = None


def control_group() -> Any:
    """A gloo group with a timeout of 14 days: ranks may wait hours while rank 0 works, without spinning."""
    global _control_group
    if _control_group is None:
        from datetime import timedelta

        import torch.distributed as dist

        _control_group = dist.new_group(backend="gloo", timeout=timedelta(days=14))
    return _control_group


class Journal:
    """The stage's `metrics.jsonl`: one line a record, `{"time": ms, "step": n, "metrics": {...}}`.

    A resumed stage computes some steps a second time. The values are the same, so what was written
    stays: a (metric, step) that is already there is not written again.

    A line that a kill or a power cut left incomplete is removed when a journal is opened again. `num_damaged`: complete
    lines that are no records.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.num_damaged = 0
        self._seen: set[tuple[str, int]] = set()
        if path is None or not path.exists():
            return
        content = path.read_bytes()
        kept = bytearray()
        for line in content.split(b"\n")[:-1]:  # what comes after the last line break was cut off by a kill
            seen = _names_and_step(line)
            if seen is None:
                self.num_damaged += 1
                continue
            kept += line + b"\n"
            self._seen |= seen
        if self.num_damaged:
            write_durably(path, kept.decode("utf-8"))
        elif len(kept) != len(content):
            os.truncate(path, len(kept))

    def sync(self) -> None:
        """Bring to the disk what was logged: a checkpoint must not be newer than its journal."""
        if self.path is not None and self.path.exists():
            sync(self.path)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Append metrics of a step (names as in the spec: `loss/total`, `eval/rouge2`, `learning_rate`)."""
        new = {name: float(value) for name, value in metrics.items() if (name, step) not in self._seen}
        if self.path is None or not new:
            return
        self._seen.update((name, step) for name in new)
        line = json.dumps({"time": int(time.time() * 1000), "step": step, "metrics": new}, allow_nan=False) + "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)


def _names_and_step(line: bytes) -> set[tuple[str, int]] | None:
    """(metric, step) of a line of a journal; None: it is no record."""
    try:
        record = json.loads(line)
        return {(name, int(record["step"])) for name, _ in record["metrics"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


class Progress:
    """Where a stage stands, for the driver's bar: a small JSON file, replaced at most 5 times a second."""

    def __init__(self, path: Path | None, stage: str) -> None:
        self.path = path
        self.stage = stage
        self._written = 0.0

    @contextmanager
    def task(self, title: str, total: float | None, unit: str = "") -> Iterator[Callable[..., None]]:
        """Yields `update(done, note="")`. `total` None: the end is not known."""

        def update(done: float, note: str = "") -> None:
            record = {"stage": self.stage, "title": title, "done": done, "total": total, "unit": unit, "note": note}
            self._write(record, force=total is not None and done >= total)

        update(0)
        yield update

    def _write(self, record: Mapping[str, Any], force: bool) -> None:
        now = time.monotonic()
        if self.path is None or (now - self._written < 0.2 and not force):
            return
        self._written = now
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(record, allow_nan=False), "utf-8")
        temporary.replace(self.path)
