"""How workers are started: on which devices, and with what command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distilc.runtime.execution.control import Control
from distilc.runtime.execution.heartbeat import process_start
from distilc.runtime.execution.launch import (
    SINGLE_PROCESS,
    become_single_process,
    launch_command,
    launch_environment,
    require_devices,
)
from distilc.runtime.execution.launcher import KILL, read_options, worker_environments
from distilc.runtime.execution.nodes import Rendezvous, read_hosts, remote_script
from distilc.runtime.execution.processes import free_port, without_mlflow
from distilc.runtime.failure import Failure
from distilc.runtime.plan.load import load_plan
from distilc.runtime.plan.plan import Plan


def plan_for(**site: Any) -> Plan:
    plan = load_plan(Path(__file__).with_name("sample_plan.json"))
    return replace(plan, site=replace(plan.site, **site))


def command_for(plan: Plan, folder: Path) -> list[str]:
    return launch_command(plan, folder, plan.stages[:1], Control(folder), [], 0, Rendezvous("127.0.0.1", free_port()))


def devices_of(command: list[str]) -> list[str]:
    (option,) = [word for word in command if word.startswith("--devices=")]
    return option.partition("=")[2].split(",")


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
    assert devices_of(command_for(plan, tmp_path)) == devices


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
    assert devices_of(command_for(plan, tmp_path)) == ["0", "1", "2"]


def test_each_machine_of_a_hostfile_has_its_launcher(tmp_path: Path) -> None:
    plan = plan_for(device="cuda", nodes=2, per_node=3, hostfile="hosts")
    rendezvous, hosts = Rendezvous("10.0.0.7", 40123), ["me@n1", "n2"]
    for node in (0, 1):
        command = launch_command(plan, tmp_path, plan.stages[:1], Control(tmp_path), hosts, node, rendezvous)
        assert devices_of(command) == ["0", "1", "2"]
        assert {f"--node={node}", "--nodes=2", "--address=10.0.0.7", "--port=40123"} <= set(command)


def test_each_worker_of_a_machine_has_its_rank_among_those_of_all(tmp_path: Path) -> None:
    plan = plan_for(device="cuda", nodes=2, per_node=3, hostfile="hosts")
    rendezvous, hosts = Rendezvous("10.0.0.7", 40123), ["me@n1", "n2"]
    command = launch_command(plan, tmp_path, plan.stages[:1], Control(tmp_path), hosts, 1, rendezvous)
    options = read_options(command[command.index("distilc.runtime.execution.launcher") + 1 :])
    assert [options.module, *options.arguments] == command[command.index("distilc.runtime") :]
    common = {"WORLD_SIZE": "6", "LOCAL_SIZE": "3", "MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "40123",
              "CROSS_RANK": "1", "CROSS_SIZE": "2", "CUDA_VISIBLE_DEVICES": "0,1,2"}  # fmt: skip
    for i, environment in enumerate(worker_environments(options)):
        assert {**common, "RANK": str(3 + i), "LOCAL_RANK": str(i)}.items() <= environment.items()


def test_variables_that_matter_reach_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By standard input, whatever is in them; what is each machine's own stays here."""
    odd = "a 'b' $HOME \"c\"\nd"
    given = {"HF_TOKEN": "secret", "DISTILC_ODD": odd, "NCCL_DEBUG": "INFO", "PYTHONPATH": "/p", "http_proxy": "x"}
    own = {"MLFLOW_TRACKING_PASSWORD": "no", "OMP_NUM_THREADS": "7", "CUDA_VISIBLE_DEVICES": "3", "OMPI_COMM_WORLD_RANK": "1"}
    for name, value in (given | own).items():
        monkeypatch.setenv(name, value)
    show = "import json, os, sys; print(json.dumps([os.getcwd(), sys.argv[1], dict(os.environ)]))"
    monkeypatch.chdir(tmp_path)
    script = remote_script([sys.executable, "-c", show, "it's"], launch_environment(plan_for(hostfile="hosts", offline=True)))
    result = subprocess.run(["/bin/sh", "-s"], input=script, env={"HOME": "/h"}, capture_output=True, text=True, check=True, cwd="/")
    folder, argument, environment = json.loads(result.stdout)
    assert (folder, argument, environment["HOME"]) == (str(tmp_path), "it's", "/h")
    for name, value in (given | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}).items():
        assert environment[name] == value
    assert not own.keys() & environment.keys()


CLUSTER = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "far", "MASTER_PORT": "1",
           "LOCAL_WORLD_SIZE": "2", "NODE_RANK": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"}  # fmt: skip


def test_what_a_cluster_says_of_this_process_is_no_matter_of_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**CLUSTER, "OMP_DYNAMIC": "TRUE"}.items():
        monkeypatch.setenv(name, value)
    assert not CLUSTER.keys() & launch_environment(plan_for(hostfile=None)).keys()
    monkeypatch.setattr(os, "environ", os.environ.copy())
    become_single_process(plan_for(hostfile=None))
    assert {name: os.environ.get(name) for name in SINGLE_PROCESS} == SINGLE_PROCESS
    assert os.environ["OMP_DYNAMIC"] == os.environ["MKL_DYNAMIC"] == "FALSE"
    assert os.environ["MASTER_PORT"] != "1" and not {"TORCHELASTIC_USE_AGENT_STORE", "NODE_RANK"} & os.environ.keys()


def test_the_first_machines_of_a_hostfile_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# two boxes\n\nroot@192.168.1.7 slots=1\n  worker-2   slots=8  # the big one\nworker-3 slots=1\n")
    assert read_hosts(file, 2) == ["root@192.168.1.7", "worker-2"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot read the hostfile"),
        (b"a slots=1\n\xff slots=1\n", "it is not UTF-8"),
        (b"a slots=1\n", "names 1 machines, and the plan is for 2"),
        (b"a slots=1\nb lots=8\n", ":2: not `NAME slots=DEVICES`"),
        (b"a slots=1\na slots=1\n", ":2: a is listed twice"),
        (b"-oProxyCommand=x slots=1\n", ":1: not"),
    ],
)
def test_a_hostfile_that_changed_since_it_was_checked(text: bytes | None, words: str, tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(Failure) as told:
        read_hosts(file, 2)
    assert told.value.code == "R120" and words in told.value.message


@pytest.mark.slow
def test_the_launcher_starts_a_process_a_device(tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text(
        "import os, sys\n"
        "words = ['at', *(os.environ[name] for name in ('RANK', 'WORLD_SIZE', 'LOCAL_SIZE')), *sys.argv[1:2]]\n"
        "os.write(1, (' '.join(words) + '\\n').encode())\n"  # a line is whole, whoever else writes
    )
    command = command_for(plan_for(device="cpu", per_node=2, hostfile=None), tmp_path)
    command[command.index("distilc.runtime")] = "rank"
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert result.returncode == 0, result.stderr
    assert sorted(line for line in result.stdout.splitlines() if line.startswith("at")) == ["at 0 2 2 worker", "at 1 2 2 worker"]


@pytest.mark.slow
@pytest.mark.parametrize(("end", "code"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 137)])
def test_where_one_worker_fails_the_launcher_ends_the_others_and_says_its_code(end: str, code: int, tmp_path: Path) -> None:
    """Also what those have started, and what does not hear of it."""
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
    (tmp_path / "rank.py").write_text(
        "import os, subprocess, sys, time\n"
        f"if os.environ['RANK'] == '1':\n    time.sleep(0.5)\n    {end}\n"
        f"os.write(1, b'up %d %d\\n' % (os.getpid(), {child}.pid))\ntime.sleep(600)\n"
    )
    command = command_for(plan_for(device="cpu", per_node=2, hostfile=None), tmp_path)
    command[command.index("distilc.runtime")] = "rank"
    began = time.monotonic()
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert result.returncode == code and time.monotonic() - began < 30, result.stderr
    (up,) = (line.split()[1:] for line in result.stdout.splitlines() if line.startswith("up "))
    assert [process_start(int(pid)) for pid in up] == [None, None]


def test_a_launcher_ends_with_its_line_to_the_driver(tmp_path: Path) -> None:
    """What hangs is killed with it, though the launcher be on another machine."""
    (tmp_path / "rank.py").write_text("import os, time\nos.write(1, b'up %d\\n' % os.getpid())\ntime.sleep(600)\n")
    command = command_for(plan_for(device="cpu", per_node=1, hostfile=None), tmp_path)
    command[command.index("distilc.runtime")] = "rank"
    launcher = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path,
        start_new_session=True,
    )  # fmt: skip
    assert launcher.stdin is not None and launcher.stdout is not None
    pid = next(int(line.split()[1]) for line in launcher.stdout if line.startswith("up "))
    launcher.stdin.write(KILL)
    launcher.stdin.flush()
    assert launcher.wait(30) == -9
    give_up = time.monotonic() + 30
    while process_start(pid) is not None and time.monotonic() < give_up:
        time.sleep(0.02)
    assert process_start(pid) is None


@pytest.mark.slow
def test_mlflow_is_kept_out_of_an_import_and_there_after_it() -> None:
    code = (
        "import sys\n"
        "from distilc.runtime.execution.processes import without_mlflow\n"
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
