"""`doctor`: the real machine once, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from distilc.runtime.commands import doctor
from distilc.runtime.commands.doctor import CHECKS, Machine, cpu_quota, disk_bandwidth, examine

LIBRARIES: dict[str, Any] = {
    "torch": {"version": "2.13.0", "built_for": None, "devices": [], "memory_bytes": [], "bf16": None, "threads": 2},
    "gloo": {"works": True},
    "transformers": {"version": "5.0.0"},
    "mlflow": {"version": "3.17.2"},
    "deepspeed": {"version": "0.19.8", "accelerator": "cpu"},
}


def findings(machine: Machine) -> dict[str, tuple[str, str, str]]:
    return {
        finding.subject: (finding.state, finding.message, finding.hint)
        for check in CHECKS
        for finding in check(machine)
    }


def machine(tmp_path: Path, **changed: Any) -> Machine:
    return Machine(tmp_path / "workspace", file_bytes=8 << 20, libraries={**LIBRARIES, **changed})


def test_every_check_is_in_the_list() -> None:
    assert {check.__name__ for check in CHECKS} == {name for name in vars(doctor) if name.startswith("check_")}


@pytest.mark.slow
def test_this_machine(tmp_path: Path) -> None:
    subject = Machine(tmp_path / "workspace", file_bytes=8 << 20)
    found = {finding.subject: finding for finding in examine(subject)}
    assert {name for name, finding in found.items() if finding.state == "fail"} == set()
    assert {"torch", "deepspeed", "processes", "workspace", "tracking"} <= set(found)
    record = json.loads((tmp_path / "workspace" / "doctor.json").read_text())
    assert record["write_bytes_per_second"] > 1e6
    assert record["read_bytes_per_second"] > 1e6
    assert [file.name for file in (tmp_path / "workspace").iterdir()] == ["doctor.json"]


def test_a_library_that_does_not_import_fails(tmp_path: Path) -> None:
    found = findings(machine(tmp_path, deepspeed={"error": "No module named 'deepspeed'"}))
    assert found["deepspeed"][:2] == ("fail", "does not import: No module named 'deepspeed'")
    assert found["deepspeed"][2].endswith("-m pip install --force-reinstall deepspeed")


def test_a_wrong_accelerator_is_said(tmp_path: Path) -> None:
    found = findings(machine(tmp_path, deepspeed={"version": "1", "accelerator": "cuda"}))
    assert found["deepspeed"] == ("warn", "takes the accelerator for 'cuda'", "export DS_ACCELERATOR=cpu")
    torch = {**LIBRARIES["torch"], "devices": ["H200"], "memory_bytes": [141 * 10**9], "bf16": True}
    found = findings(
        machine(tmp_path, torch=torch, deepspeed={"version": "1", "accelerator": "cuda"})
    )
    assert found["accelerator"][1] == "cuda: H200 (141 GB)"
    assert found["deepspeed"][0] == "ok"


def test_a_workspace_that_cannot_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "workspace").write_text("a file")
    found = findings(machine(tmp_path))
    assert found["workspace"][0] == "fail"
    assert found["workspace"][2] == "give another one with --workspace DIR"


def test_a_tracking_server_that_is_away_is_a_warning_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:1")
    state, message, _ = findings(machine(tmp_path))["tracking"]
    assert state == "warn"
    assert message.startswith("http://***@127.0.0.1:1 does not answer")


def test_a_user_without_a_home_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user the system does not know: nothing is there to find a home by."""
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    found = findings(machine(tmp_path, mlflow={"error": "Could not determine home directory."}))
    assert found["home"][0] == "warn" and found["home"][2].startswith("export HOME=")
    assert found["mlflow"][0] == "fail" and found["mlflow"][2] == found["home"][2]


def test_container_quota(tmp_path: Path) -> None:
    file = tmp_path / "cpu.max"
    assert cpu_quota(file) is None
    file.write_text("max 100000\n")
    assert cpu_quota(file) is None
    file.write_text("150000 100000\n")
    assert cpu_quota(file) == 1.5


def test_bandwidth_leaves_nothing_behind(tmp_path: Path) -> None:
    write, read = disk_bandwidth(tmp_path, 8 << 20)
    assert write > 0 < read
    assert list(tmp_path.iterdir()) == []


def test_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "PROBE_FILE_BYTES", 1 << 20)
    monkeypatch.setattr(doctor, "ask_libraries", lambda: LIBRARIES)
    assert doctor.main(["--workspace", str(tmp_path)]) == 0
    monkeypatch.setattr(doctor, "ask_libraries", lambda: {"error": "importing the libraries failed: killed"})
    assert doctor.main(["--workspace", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "fail libraries     importing the libraries failed: killed\n" in shown
    assert shown.rstrip().endswith("1 failed")
