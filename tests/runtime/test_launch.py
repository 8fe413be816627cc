"""How workers are started: on which devices, and with what command."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distilc.runtime.control import Control
from distilc.runtime.failure import Failure
from distilc.runtime.launch import launch_command, require_devices
from distilc.runtime.plan import Plan, load_plan
from distilc.runtime.processes import without_mlflow


def plan_for(**site: Any) -> Plan:
    plan = load_plan(Path(__file__).with_name("sample_plan.json"))
    return replace(plan, site=replace(plan.site, **site))


def command_for(plan: Plan, folder: Path) -> list[str]:
    return launch_command(plan, folder, plan.stages[:1], Control(folder))


def world(command: list[str]) -> Any:
    (option,) = [word for word in command if word.startswith("--world_info=")]
    return json.loads(base64.urlsafe_b64decode(option.partition("=")[2]))


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        (None, ["0", "1"]),
        ("6,7", ["6", "7"]),
        ("3, 1 ,2", ["3", "1"]),
        ("GPU-9fd1,MIG-77", ["GPU-9fd1", "MIG-77"]),
    ],
)
def test_workers_get_the_devices_that_are_visible(
    visible: str | None, devices: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    plan = plan_for(device="cuda", per_node=2, hostfile=None)
    require_devices(plan)
    assert world(command_for(plan, tmp_path)) == {"localhost": devices}


@pytest.mark.parametrize("visible", ["5", "", " , "])
def test_too_few_devices_are_told(visible: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(Failure, match="the plan is for 2 devices, and CUDA_VISIBLE_DEVICES=") as told:
        require_devices(plan_for(device="cuda", per_node=2, hostfile=None))
    assert told.value.code == "R109"


def test_a_cpu_has_as_many_as_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    plan = plan_for(device="cpu", per_node=3, hostfile=None)
    require_devices(plan)
    assert world(command_for(plan, tmp_path)) == {"localhost": ["0", "1", "2"]}


def test_several_machines_are_left_to_deepspeed(tmp_path: Path) -> None:
    command = command_for(plan_for(device="cuda", nodes=2, per_node=8, hostfile="hosts"), tmp_path)
    start = command.index("deepspeed.launcher.runner")
    assert command[start + 1 : start + 7] == ["--hostfile", "hosts", "--num_nodes", "2", "--num_accelerators", "8"]


def test_the_launcher_starts_a_process_a_device(tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text(
        "import os, sys\n"
        "words = ['at', *(os.environ[name] for name in ('RANK', 'WORLD_SIZE', 'LOCAL_SIZE')), *sys.argv[1:2]]\n"
        "os.write(1, (' '.join(words) + '\\n').encode())\n"  # a line is whole, whoever else writes
    )
    command = command_for(plan_for(device="cpu", per_node=2, hostfile=None), tmp_path)
    command[command.index("distilc.runtime")] = "rank"
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert result.returncode == 0, result.stderr
    assert sorted(line for line in result.stdout.splitlines() if line.startswith("at")) == ["at 0 2 2 worker", "at 1 2 2 worker"]


def test_mlflow_is_kept_out_of_an_import_and_there_after_it() -> None:
    code = (
        "import sys\n"
        "from distilc.runtime.processes import without_mlflow\n"
        "with without_mlflow():\n"
        "    try: import mlflow.tracking\n"
        "    except ImportError: print('away')\n"
        "assert 'mlflow' not in sys.modules\n"
        "import mlflow.version; print('back')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout.split() == ["away", "back"], result.stderr


def test_mlflow_that_is_loaded_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = object()
    monkeypatch.setitem(sys.modules, "mlflow", loaded)  # type: ignore[arg-type]
    with without_mlflow():
        assert sys.modules["mlflow"] is loaded
    assert sys.modules["mlflow"] is loaded
