"""Machines of a hostfile, over an `ssh` that runs everything here: what is asked of them, and how they end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distilc.runtime.execution import launch, nodes
from distilc.runtime.execution.control import Control, make_control
from distilc.runtime.execution.launch import Launch
from distilc.runtime.execution.nodes import ask_hosts
from distilc.runtime.failure import Failure
from distilc.runtime.plan.load import load_plan

SSH = """\
#!/bin/sh
[ "$1" = -G ] && { echo "user me"; echo "hostname 10.0.0.9"; exit; }
while [ "$1" != -- ]; do shift; done
echo "Welcome to $2"
case $2 in
  gone) echo "ssh: connect to host gone port 22: No route to host" >&2; exit 255;;
  bare) sed 's|^exec .*|exec /nowhere/bin/python x|' | sh -s;;
  far) sed "s|$CONTROL|/elsewhere|" | sh -s;;
  *) NODE=$2 exec sh -c "$3";;
esac
"""


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Control]:
    """That of a driver that is there, with such an `ssh` in the PATH."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(SSH, "utf-8")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    control = make_control(tmp_path / "run")
    monkeypatch.setenv("CONTROL", str(control.folder))
    with control.driven():
        yield control


def test_machines_that_are_fit_meet_at_the_first(control: Control) -> None:
    rendezvous = ask_hosts(["nickname", "b"], control, dict(os.environ))
    assert rendezvous.address == "10.0.0.9" and 1024 <= rendezvous.port < 65536


@pytest.mark.parametrize(
    ("host", "said", "hint"),
    [
        ("gone", "gone: ssh: connect to host gone port 22: No route to host", "without a password"),
        ("bare", "/nowhere/bin/python: not found", "distilc"),
        ("far", "far: there is no ", "all machines must share the folder of the workspace"),
    ],
)
def test_a_machine_that_is_not_fit_is_told(host: str, said: str, hint: str, control: Control) -> None:
    with pytest.raises(Failure) as told:
        ask_hosts(["a", host], control, dict(os.environ))
    failure = told.value
    assert (failure.code, failure.exit_code) == ("R121", 1)
    assert failure.message.startswith("cannot start processes on 1 of 2 machines: ") and said in failure.message
    assert hint in failure.hint


def test_all_machines_that_are_not_fit_are_told(control: Control) -> None:
    with pytest.raises(Failure, match=r"on 3 of 4 machines: gone: .*; bare: .*; far: "):
        ask_hosts(["a", "gone", "bare", "far"], control, dict(os.environ))


def test_without_ssh_it_is_said(control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failure, match="a: ssh is not installed here"):
        ask_hosts(["a"], control, dict(os.environ))


def started(control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: str) -> tuple[Launch, Path]:
    """A launch on two machines, a and b, whose launcher is this code; and its log."""
    plan = load_plan(Path(__file__).with_name("sample_plan.json"))
    (tmp_path / "hosts").write_text("a slots=1\nb slots=1\nc slots=1\n")
    plan = replace(plan, site=replace(plan.site, hostfile=str(tmp_path / "hosts"), nodes=2))
    command = [sys.executable, "-u", "-c", f"import os, sys, time\nnode = os.environ['NODE']\n{worker}"]
    monkeypatch.setattr(launch, "launch_command", lambda *_: command)
    log = tmp_path / "log"
    with log.open("wb") as output:
        return Launch(plan, tmp_path, plan.stages, control, output), log


def wait(launched: Launch, seconds: float = 30.0) -> None:
    give_up = time.monotonic() + seconds
    while launched.running() and time.monotonic() < give_up:
        time.sleep(0.02)


def test_a_launcher_runs_on_each_machine(control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launched, log = started(control, tmp_path, monkeypatch, "print('on', node); sys.exit(3 if node == 'b' else 0)")
    wait(launched)
    launched.end()
    assert launched.first_failure == ("b", 3)
    assert sorted(line for line in log.read_text().splitlines() if line.startswith("on")) == ["on a", "on b"]


def test_where_one_launcher_failed_the_others_do_not_go_on_for_ever(
    control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a machine is lost: its peers may wait for it for hours."""
    monkeypatch.setattr(launch, "DRIVER_GRACE_SECONDS", 0.5)
    obey = "assert sys.stdin.readline() == 'kill\\n'; print('obeyed'); os.kill(os.getpid(), 9)"
    launched, log = started(control, tmp_path, monkeypatch, f"if node == 'a': sys.exit(1)\n{obey}")
    wait(launched)
    launched.end()
    assert "obeyed\n" in log.read_text()
    assert launched.first_failure == ("a", 1)  # and not the one that was killed because of it


def test_a_machine_says_what_it_sees(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    def says(folder: Path) -> Any:
        import json

        assert nodes.main([str(folder)]) == 0
        return json.loads(capsys.readouterr().out)

    assert says(control.folder)["sees"] is True and says(control.folder / "none")["sees"] is False
