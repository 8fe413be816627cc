"""How the processes of a run are started: the launcher's command line and its environment.

As a program it is the launcher of one machine: `deepspeed.launcher.launch`, and nothing more.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .control import Control
from .failure import Failure
from .plan import Plan, Stage
from .processes import free_port, thread_environment, without_mlflow

VISIBLE = "CUDA_VISIBLE_DEVICES"


def launch_command(plan: Plan, folder: Path, stages: Sequence[Stage], control: Control) -> list[str]:
    """DeepSpeed's launcher with one worker for each device. `folder` holds the plan.

    Its exit code says little: one that was killed may end with 0."""
    return [
        sys.executable, "-u", "-m", *_launcher(plan), "--no_local_rank", "--master_port", str(free_port()),
        "--module", "distilc.runtime", "worker", str(folder), "--stages", ",".join(stage.id for stage in stages),
        "--control", str(control.folder), "--driver", str(os.getpid()),
    ]  # fmt: skip


def launch_environment(plan: Plan, local_world: int) -> dict[str, str]:
    """This process's environment, with the threads shared out and the hub kept quiet (or away)."""
    environment = {
        **os.environ,
        **thread_environment(local_world),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    if plan.site.offline:
        environment["HF_HUB_OFFLINE"] = "1"
    return environment


def require_devices(plan: Plan) -> None:
    """Raises `Failure` R109: fewer devices are visible on this machine than the plan is for."""
    visible = _visible(plan)
    if visible is not None and len(visible) < plan.site.per_node:
        shown = f"{VISIBLE}={os.environ[VISIBLE]} shows {len(visible)}"
        raise Failure(
            "R109", f"the plan is for {plan.site.per_node} devices, and {shown}",
            f"name more in {VISIBLE}, or fewer with --devices",
        )  # fmt: skip


def _launcher(plan: Plan) -> list[str]:
    """The module that starts the workers, and on what.

    `deepspeed` itself (`runner`) finds out about nodes and then starts `launch` on each. On this machine alone
    `launch` is asked at once: a process less, that takes seconds to start, and `runner` would ignore
    CUDA_VISIBLE_DEVICES where a number of devices is given, and take those of somebody else."""
    if plan.site.hostfile is not None:
        return ["deepspeed.launcher.runner", "--hostfile", plan.site.hostfile, "--num_nodes", str(plan.site.nodes),
                "--num_accelerators", str(plan.site.per_node)]  # fmt: skip
    numbers = [str(number) for number in range(plan.site.per_node)]
    world = json.dumps({"localhost": (_visible(plan) or numbers)[: plan.site.per_node]}, allow_nan=False)
    return ["distilc.runtime.launch", f"--world_info={base64.urlsafe_b64encode(world.encode()).decode()}"]


def _visible(plan: Plan) -> list[str] | None:
    """What CUDA_VISIBLE_DEVICES names: numbers, UUIDs, parts of cards. None: all that there are."""
    visible = os.environ.get(VISIBLE)
    if visible is None or plan.site.device != "cuda" or plan.site.hostfile is not None:
        return None
    return [name.strip() for name in visible.split(",") if name.strip()]


def _start_workers() -> None:
    with without_mlflow():
        from deepspeed.launcher.launch import main
    main()


if __name__ == "__main__":
    _start_workers()
