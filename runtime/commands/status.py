"""`status`: what ran in a workspace, what is running, and what is left."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..execution.control import latest_control
from ..execution.pending import pending_stages
from ..execution.store import MANIFEST, Store
from ..failure import Failure
from ..messages.terminal import aligned, tell
from ..plan.load import load_plan
from ..plan.plan import Plan
from ..report.summary import main_metric
from ..tracking.record import load_record


@dataclass(frozen=True)
class RunStatus:
    """`state`: finished | partial | running | failed | interrupted | not started | unreadable. `stages`: id -> done |
    running | left. `result`: the student's main metric. `age_seconds`: since anything was written."""

    name: str
    key: str
    state: str
    stages: dict[str, str]
    result: str
    age_seconds: float
    note: str

    @property
    def num_done(self) -> int:
        return sum(state == "done" for state in self.stages.values())


def main(argv: Sequence[str]) -> int:
    """`status --workspace DIR`. Returns the exit code: 1 when the workspace cannot be read."""
    parser = argparse.ArgumentParser(prog="distilc status", description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path(".distilc"))
    workspace: Path = parser.parse_args(argv).workspace
    try:
        runs = workspace_status(workspace)
        lines = [*_table(runs), *_left(runs), _disk(workspace)]
    except OSError as error:
        tell(f"R404: cannot read the workspace {workspace}: {error.strerror}", err=True)
        return 1
    tell("\n".join(lines))
    return 0


def workspace_status(workspace: Path) -> list[RunStatus]:
    """Every run of the workspace and every plan compiled into it, the latest first. Raises `OSError`."""
    run_folders = _folders(workspace / "runs")
    ran = {folder.name for folder in run_folders}
    plans = [folder for folder in _folders(workspace / "plans") if not _has_run(folder, ran)]
    store = Store(workspace / "store")
    runs = [run_status(folder, store) for folder in [*run_folders, *plans]]
    return sorted(runs, key=lambda run: run.age_seconds)


def run_status(folder: Path, store: Store) -> RunStatus:
    """The status of one run (or plan) folder."""
    age = time.time() - _last_written(folder)
    try:
        plan = load_plan(folder, to_run=False)
    except Failure as failure:
        return RunStatus(folder.name, "", "unreadable", {}, "", age, failure.message)
    stages = {stage.id: _stage_state(stage.key, store) for stage in plan.stages}
    summary = _summary(folder)
    control = latest_control(folder)
    failure_told = None if control is None else control.failure()
    note = ""
    missing = pending_stages(plan, store, None)
    if "running" in stages.values():
        state = "running"
    elif not missing and summary is not None:
        state = "finished"
    elif failure_told is not None and failure_told.exit_code == 1:
        state, note = "failed", f"{failure_told.code}: {failure_told.message}"
    elif summary is not None:
        ids = ", ".join(stage.id for stage in missing)
        state, note = "partial", f"it was finished; {ids}: gone from the store, or to be computed again (--redo)"
    elif load_record(folder / "tracking.json").state == "FINISHED":
        state, note = "partial", "it ended where it was asked to (--until); without it the same command goes on"
    elif _has_begun(plan, folder, store):
        state = "interrupted"
    else:
        state = "not started"
    result = _result(summary) if summary is not None and state == "finished" else ""
    return RunStatus(plan.name, plan.key[:8], state, stages, result, age, note)


def _stage_state(key: str, store: Store) -> str:
    if store.has(key):
        return "done"
    return "running" if store.owner(key) is not None else "left"


def _has_begun(plan: Plan, folder: Path, store: Store) -> bool:
    """Was it ever run? Artifacts alone do not say so: another run may have made them."""
    began = (folder / "control").exists() or (folder / "tracking.json").exists()
    return began or any((store.root / ".work" / stage.key).exists() for stage in plan.stages)


def _has_run(plan_folder: Path, ran: set[str]) -> bool:
    try:
        plan = load_plan(plan_folder, to_run=False)
    except Failure:
        return False
    return f"{plan.name}-{plan.key[:8]}" in ran


def _folders(parent: Path) -> list[Path]:
    if not parent.exists():
        return []
    return sorted(folder for folder in parent.iterdir() if (folder / "plan.json").is_file())


def _summary(folder: Path) -> dict[str, Any] | None:
    try:
        summary: dict[str, Any] = json.loads((folder / "summary.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    known = ("student", "teacher", "retention")
    return summary if isinstance(summary, dict) and all(isinstance(summary.get(name), dict) for name in known) else None


def _result(summary: dict[str, Any]) -> str:
    metric = main_metric(summary)
    if metric is None:
        return ""
    share = summary["retention"].get(metric)
    kept = f" ({share:.1f} % of the teacher)" if share is not None else ""
    return f"{metric} {summary['student'].get(metric, summary['teacher'].get(metric)):.2f}{kept}"


def _last_written(folder: Path) -> float:
    return max((file.stat().st_mtime for file in folder.iterdir() if file.is_file()), default=0.0)


# --- text ------------------------------------------------------------------------------------------


def _table(runs: Sequence[RunStatus]) -> Iterator[str]:
    if not runs:
        yield "no runs yet; begin with: distilc run SPEC"
        return
    header = ("run", "key", "state", "stages", "result", "last change")
    rows = [header] + [
        (run.name, run.key, run.state, f"{run.num_done}/{len(run.stages)}", run.result, _ago(run.age_seconds))
        for run in runs
    ]
    yield from aligned(rows)


def _left(runs: Sequence[RunStatus]) -> Iterator[str]:
    """What is left of every run that is not finished."""
    for run in runs:
        if run.state == "finished":
            continue
        yield ""
        yield f"{run.name} {run.key}: {run.state}{': ' if run.note else ''}{run.note}"
        for state in ("done", "running", "left"):
            ids = [id for id, found in run.stages.items() if found == state]
            if ids:
                yield f"  {state + ':':<9}{', '.join(ids)}"


def _disk(workspace: Path) -> str:
    store = workspace / "store"
    artifacts = [folder for folder in store.iterdir() if (folder / MANIFEST).is_file()] if store.exists() else []
    existing = next(folder for folder in (workspace, *workspace.absolute().parents) if folder.exists())
    return (
        f"\n{workspace}: {len(artifacts)} artifacts, {_size(sum(map(_bytes, artifacts)))}; "
        f"unfinished work {_size(_bytes(store / '.work'))}; "
        f"free on the disk {_size(shutil.disk_usage(existing).free)}"
    )


def _bytes(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:
            continue  # went away while we looked
    return total


def _size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit in ("B", "kB") else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"
