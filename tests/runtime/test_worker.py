"""The worker: what it publishes says what it was made from."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distilc.runtime import worker
from distilc.runtime.control import Control
from distilc.runtime.plan import load_plan
from distilc.runtime.processes import Ranks, StopRequest
from distilc.runtime.store import Store

PLAN = Path(__file__).with_name("sample_plan.json")


def test_an_artifact_records_settings_and_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, tree = load_plan(PLAN), json.loads(PLAN.read_text("utf-8"))
    store = Store(tmp_path / "store")
    written: dict[str, Any] = {"PARALLEL": False, "run": lambda stage, context: {"line": "done"}}
    monkeypatch.setattr(worker.importlib, "import_module", lambda *name: SimpleNamespace(**written))
    control = Control(tmp_path / "control")
    ranks = Ranks(rank=0, world=1, local_rank=0, local_world=1, device="cpu")
    stop = StopRequest(control.stop_file, None, ranks)
    for stage in plan.stages:
        worker.run_stage(plan, stage, store, control, ranks, stop)
    for stage in tree["stages"]:
        manifest = store.manifest(stage["key"])
        assert manifest["settings"] == stage["settings"]
        assert manifest["needs"] == {role: plan.stage(id).key for role, id in stage["needs"].items()}
