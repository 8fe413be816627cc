"""The files of a run that go to MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..plan import Plan
from . import content
from .record import Record


@dataclass(frozen=True)
class Outgoing:
    """A text file on its way: `stage` None is the parent run; `folder` is where MLflow shows it."""

    path: Path
    folder: str
    stage: str | None

    @property
    def key(self) -> str:
        """`<stage>|<path in the run's artifacts>`"""
        return f"{self.stage or ''}|{self.folder}{'/' if self.folder else ''}{self.path.name}"


def outgoing_files(plan: Plan, run_folder: Path, record: Record) -> Iterator[Outgoing]:
    """The compiled plan, the results of finished stages, and what the driver gave at the end."""
    for path in content.plan_files(run_folder):
        yield Outgoing(path, "plan", None)
    kinds = {stage.id: stage.kind for stage in plan.stages}
    for id, stage in record.stages.items():
        if stage.state == "FINISHED" and stage.folder is not None and id in kinds:
            for path in content.stage_files(kinds[id], Path(stage.folder)):
                yield Outgoing(path, "", id)
    for name in record.artifacts:
        yield Outgoing(Path(name), "", None)


class Texts:
    """What is sent of each file, read again only when the file was changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int], str]] = {}

    def read(self, path: Path) -> str:
        """Raises `OSError`: it is not there (any more)."""
        state = path.stat()
        signature = (state.st_size, state.st_mtime_ns)
        known = self._known.get(path)
        if known is None or known[0] != signature:
            known = self._known[path] = (signature, content.file_text(path))
        return known[1]
