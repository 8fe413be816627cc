"""How the processes of a run are started: on which machines and devices, and in what environment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from ..failure import Failure
from ..plan.plan import Plan, Stage
from .control import Control
from .launcher import KILL, VISIBLE
from .nodes import Rendezvous, ask_hosts, read_hosts, remote_script, ssh_command
from .processes import DRIVER_GRACE_SECONDS, free_port, thread_environment

# Variables that give a process its rank. Schedulers and launchers set them for the processes that they start.
PLACE = re.compile(
    "RANK|WORLD_SIZE|MASTER_(ADDR|PORT)|LOCAL_(RANK|SIZE|WORLD_SIZE)|CROSS_(RANK|SIZE)|NODE_RANK"
    "|GROUP_(RANK|WORLD_SIZE)|ROLE_(RANK|NAME|WORLD_SIZE)|TORCHELASTIC_.*"
)
SINGLE_PROCESS = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}


class Launch:
    """The launchers of a run, one a machine, each with a worker for each device.

    Raises `Failure` R120, R121: machines of the hostfile cannot be used."""

    def __init__(self, plan: Plan, folder: Path, stages: Sequence[Stage], control: Control, log: IO[bytes]) -> None:
        """`folder` holds the plan; `log` takes what launchers and workers print."""
        environment = launch_environment(plan)
        hosts = [] if plan.site.hostfile is None else read_hosts(Path(plan.site.hostfile), plan.site.nodes)
        rendezvous = ask_hosts(hosts, control, environment) if hosts else Rendezvous("127.0.0.1", free_port())
        self._end_seconds = 10.0 if hosts else 0.5  # for a line that may be long
        self._failing_since: float | None = None
        self._hosts = hosts or [""]
        self._launchers: list[subprocess.Popen[str]] = []
        self.first_failure: tuple[str, int] | None = None  # machine ("": this one) and exit code, below 0 a signal
        for i, host in enumerate(self._hosts):
            command = launch_command(plan, folder, stages, control, hosts, i, rendezvous)
            launcher = subprocess.Popen(
                ssh_command(host) if hosts else command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                text=True,
            )
            self._launchers.append(launcher)
            if hosts:
                self._say(launcher, remote_script(command, environment))

    def running(self) -> bool:
        """Is there anything left to wait for? Where one launcher failed, the others have some time to save."""
        codes = [launcher.poll() for launcher in self._launchers]
        if self._failing_since is None and any(codes):
            self._failing_since = time.monotonic()
            self.first_failure = next((host, code) for host, code in zip(self._hosts, codes, strict=True) if code)
        failing = self._failing_since is not None and time.monotonic() - self._failing_since > DRIVER_GRACE_SECONDS
        return None in codes and not failing

    def end(self) -> None:
        """Kill what still runs: ranks can outlive their launcher."""
        for launcher in self._launchers:
            self._say(launcher, KILL)
        for launcher in self._launchers:
            with suppress(subprocess.TimeoutExpired):
                launcher.wait(self._end_seconds)
            with suppress(ProcessLookupError):
                os.killpg(launcher.pid, signal.SIGKILL)
            launcher.wait()

    def _say(self, launcher: subprocess.Popen[str], text: str) -> None:
        assert launcher.stdin is not None
        with suppress(OSError):  # it has ended
            launcher.stdin.write(text)
            launcher.stdin.flush()


def launch_command(
    plan: Plan,
    folder: Path,
    stages: Sequence[Stage],
    control: Control,
    hosts: Sequence[str],
    node: int,
    rendezvous: Rendezvous,
) -> list[str]:
    """The launcher of one machine (`node` counts them), with one worker for each device. `folder` holds the plan; no
    `hosts`: this machine alone.

    The `deepspeed` command, which starts workers on several machines, is not used: it needs pdsh, passes none of our
    variables on, reports no exit codes of machines, and ignores CUDA_VISIBLE_DEVICES of this one."""
    numbers = [str(number) for number in range(plan.site.per_node)]
    devices = (_visible(plan) or numbers)[: plan.site.per_node]
    return [
        sys.executable, "-u", "-m", "distilc.runtime.execution.launcher",
        f"--devices={','.join(devices)}", f"--node={node}", f"--nodes={max(1, len(hosts))}",
        f"--address={rendezvous.address}", f"--port={rendezvous.port}",
        "distilc.runtime", "worker", str(folder),
        "--stages", ",".join(stage.id for stage in stages), "--control", str(control.folder),
    ]  # fmt: skip


def launch_environment(plan: Plan) -> dict[str, str]:
    """This process's environment, without a rank that another launcher gave it, and with the hub quiet (or offline)."""
    environment = {
        **{name: value for name, value in os.environ.items() if not PLACE.fullmatch(name)},
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    if plan.site.offline:
        environment["HF_HUB_OFFLINE"] = "1"
    return environment


def become_single_process(plan: Plan) -> None:
    """Make this process's own environment that of a run of one process, whatever rank a cluster has given it."""
    environment = {**launch_environment(plan), **thread_environment(1), **SINGLE_PROCESS}
    environment["MASTER_PORT"] = str(free_port())
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


def require_devices(plan: Plan) -> None:
    """Raises `Failure` R109: fewer devices are visible on this machine than the plan is for."""
    visible = _visible(plan)
    if visible is not None and len(visible) < plan.site.per_node:
        shown = f"{VISIBLE}={os.environ[VISIBLE]} shows {len(visible)}"
        raise Failure(
            "R109", f"the plan is for {plan.site.per_node} devices, and {shown}",
            f"name more in {VISIBLE}, or fewer with --devices",
        )  # fmt: skip


def _visible(plan: Plan) -> list[str] | None:
    """What CUDA_VISIBLE_DEVICES names: numbers, UUIDs, parts of cards. None: all that there are."""
    visible = os.environ.get(VISIBLE)
    if visible is None or plan.site.device != "cuda" or plan.site.hostfile is not None:
        return None
    return [name.strip() for name in visible.split(",") if name.strip()]
