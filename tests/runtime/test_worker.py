"""The worker: what it publishes says what it was made from."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distilc.runtime import worker
from distilc.runtime.context import Context
from distilc.runtime.control import Control
from distilc.runtime.plan import Stage, load_plan
from distilc.runtime.processes import Ranks, StopRequest
from distilc.runtime.store import Store

PLAN = Path(__file__).with_name("sample_plan.json")


def test_an_artifact_records_settings_and_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, tree = load_plan(PLAN), json.loads(PLAN.read_text("utf-8"))
    store = Store(tmp_path / "store")
    written: dict[str, Any] = {"PARALLEL": False, "run": lambda stage, context: {"line": "done"}}
    monkeypatch.setattr(worker.importlib, "import_module", lambda *name: SimpleNamespace(**written))
    control = Control(tmp_path / "control")
    control.clear()
    ranks = Ranks(rank=0, world=1, local_rank=0, local_world=1, device="cpu")
    stop = StopRequest(control.stop_file, None, ranks)
    for stage in plan.stages:
        worker.run_stage(plan, stage, store, control, ranks, stop)
    for stage in tree["stages"]:
        manifest = store.manifest(stage["key"])
        assert manifest["settings"] == stage["settings"]
        assert manifest["needs"] == {role: plan.stage(id).key for role, id in stage["needs"].items()}


def test_a_stop_request_ends_the_work_before_the_next_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages that do not ask for it themselves are ended and published; what comes after them is not begun."""
    plan = load_plan(PLAN)
    plan = replace(plan, site=replace(plan.site, workspace=str(tmp_path)))
    control = Control(tmp_path / "control")
    control.folder.mkdir()
    ranks = Ranks(rank=0, world=1, local_rank=0, local_world=1, device="cpu")
    ids, ran = [stage.id for stage in plan.stages], list[str]()

    def run(stage: Stage, context: Context) -> dict[str, Any]:
        ran.append(stage.id)
        if len(ran) == 2:
            control.stop_file.touch()
        return {}

    monkeypatch.setattr(worker, "join", lambda device: ranks)
    monkeypatch.setattr(worker.importlib, "import_module", lambda *name: SimpleNamespace(PARALLEL=False, run=run))
    assert worker.work(plan, ids, control) == 130
    failure = control.failure()
    assert failure is not None and (failure.code, failure.message) == ("R300", f"stopped in stage {ids[2]}")
    control.stop_file.unlink()
    assert worker.work(plan, ids, control) == 0
    assert ran == ids


def test_a_worker_whose_workspace_is_gone_ends_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The driver sees it, too, and tells it."""
    plan = load_plan(PLAN)
    plan = replace(plan, site=replace(plan.site, workspace=str(tmp_path / "workspace")))
    control = Control(tmp_path / "workspace" / "control")
    ranks = Ranks(rank=0, world=1, local_rank=0, local_world=1, device="cpu")

    def run(stage: Stage, context: Context) -> dict[str, Any]:
        shutil.rmtree(tmp_path / "workspace")
        context.folder.joinpath("rows").write_text("")
        return {}

    monkeypatch.setattr(worker, "join", lambda device: ranks)
    monkeypatch.setattr(worker.importlib, "import_module", lambda *name: SimpleNamespace(PARALLEL=False, run=run))
    assert worker.work(plan, [plan.stages[0].id], control) == 1
    assert "Traceback" not in capsys.readouterr().err and control.failure() is None
