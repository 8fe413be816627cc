"""How the processes of a run are started: the launcher's command line and its environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .control import Control
from .plan import Plan, Stage
from .processes import free_port, thread_environment


def launch_command(plan: Plan, folder: Path, stages: Sequence[Stage], control: Control) -> list[str]:
    """The `deepspeed` launcher with one worker for each device. `folder` holds the plan.

    The launcher's exit code says little: one that was killed lets `deepspeed` end with 0."""
    command = [sys.executable, "-m", "deepspeed.launcher.runner"]
    if plan.site.hostfile is not None:
        command += ["--hostfile", plan.site.hostfile, "--num_nodes", str(plan.site.nodes)]
    return [
        *command, "--num_accelerators", str(plan.site.per_node), "--no_local_rank", "--master_port", str(free_port()),
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
