"""What a run shows: bars on a terminal, plain lines elsewhere. Only the driver prints."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..failure import Failure
from ..messages.terminal import drawing_console, tell
from ..plan.plan import Plan, Stage

LINE_SECONDS = 10.0  # without a terminal, a stage shows its progress this often


class Console:
    """Output of one run. `terminal` decides between bars and lines."""

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()
        if self.terminal:
            self._rich: Any = drawing_console()
            self.width: int = self._rich.width
        else:
            self._rich = None
            self.width = 120

    def say(self, line: str) -> None:
        """One line of text."""
        if self._rich is not None:
            self._rich.print(line, markup=False)
        else:
            tell(line)

    def print(self, text: str) -> None:
        """A finished block (the result table), with its colours."""
        tell(text, color=self.terminal)

    def headline(self, plan: Plan, num_pending: int, num_later: int) -> None:
        """`num_later`: stages after the last one that was asked for."""
        teacher, student = plan.teacher, plan.student
        self.say(
            f"{plan.name}: {teacher.family} {teacher.shape} "
            f"({teacher.parameters / 1e6:.1f}M) -> {student.shape} "
            f"({student.parameters / 1e6:.1f}M, {student.trainable_parameters / 1e6:.1f}M trained)"
        )
        num_cached = len(plan.stages) - num_pending - num_later
        later = f", {num_later} after the last one asked for" if num_later else ""
        self.say(f"stages: {num_cached} in the store, {num_pending} to run{later}")

    def launched(self, plan: Plan, log: Path) -> None:
        site = plan.site
        num_processes = site.nodes * site.per_node
        self.say(
            f"starting {num_processes} {'process' if num_processes == 1 else 'processes'} on {site.device}; log: {log}"
        )

    def stage_done(self, stage: Stage, manifest: dict[str, Any]) -> None:
        self.say(f"  {stage.id}: done in {_duration(manifest['seconds'])}{_facts(manifest['summary'])}")

    @contextmanager
    def live(self) -> Iterator[Callable[[dict[str, Any]], None]]:
        """Yields `show(progress)` for the control folder's progress records."""
        if self._rich is None:
            yield _Lines()
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._rich, transient=True) as bars:
            yield _Bars(bars)

    def closing(self, run_folder: Path, student: Path, ui: str) -> None:
        """Where everything is. `ui`: what to type for MLflow's pages; empty: there is nothing to be seen."""
        self.say(f"student: {student}")
        self.say(f"run:     {run_folder} (summary.json, metrics.jsonl, table.md)")
        if ui:
            self.say(f"mlflow:  {ui}")

    def count(self, failed: Sequence[str], number: int) -> None:
        """The last line of several runs."""
        names = f", {len(failed)} failed: {', '.join(failed)}" if failed else ""
        self.say(f"{number} runs: {number - len(failed)} done{names}")

    def warning(self, code: str, message: str, hint: str, place: tuple[str, int, int] | None) -> None:
        """`file:line:column: CODE: warning: message` and the hint, above the bars."""
        where = f"{place[0]}:{place[1]}:{place[2]}: " if place is not None else ""
        self.say(f"{where}{code}: warning: {message}")
        if hint:
            self.say(f"  hint: {hint}")

    def failure(self, failure: Failure, place: tuple[str, int, int] | None) -> None:
        """`file:line:column: CODE: message` and the hint, on stderr."""
        where = f"{place[0]}:{place[1]}:{place[2]}: " if place is not None else ""
        tell(f"{where}{failure.code}: {failure.message}", err=True)
        if failure.hint:
            tell(f"  hint: {failure.hint}", err=True)


class _Lines:
    def __init__(self) -> None:
        self._title: tuple[str, str] | None = None
        self._shown = 0.0

    def __call__(self, progress: dict[str, Any]) -> None:
        title = (progress["stage"], progress["title"])
        now = time.monotonic()
        if title == self._title and now - self._shown < LINE_SECONDS:
            return
        self._title, self._shown = title, now
        total = progress["total"]
        share = f" {progress['done']:.0f}/{total:.0f} {progress['unit']}" if total else ""
        note = f" | {progress['note']}" if progress["note"] else ""
        tell(f"  {title[0]}: {title[1]}{share}{note}")


class _Bars:
    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._task: Any = None
        self._title: tuple[str, str] | None = None

    def __call__(self, progress: dict[str, Any]) -> None:
        title = (progress["stage"], progress["title"])
        if title != self._title:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._title = title
            self._task = self._bars.add_task(f"{title[0]}: {title[1]}", total=progress["total"], note="")
        self._bars.update(
            self._task, completed=progress["done"], total=progress["total"], note=progress["note"]
        )


def _facts(summary: dict[str, Any]) -> str:
    """The one-line summary of a stage (`line`), in parentheses; empty: it has none."""
    return f" ({summary['line']})" if summary.get("line") else ""


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
