"""The text of launch.sh: how a compiled plan is run, for people and for job schedulers."""

from __future__ import annotations

import shlex

from .plan import Plan


def launch_script(plan: Plan) -> str:
    """A shell script that runs the plan folder it lies in.

    It hands over to `distilc run`, which starts the launcher, shows progress and collects the results. Where
    nodes cannot be reached by ssh, the commands in its comments start the workers of each node by hand.
    """
    site, shape = plan.site, plan.found.student.architecture
    nodes, per_node = site.nodes, site.per_node
    devices = f"{nodes * per_node} {'process' if nodes * per_node == 1 else 'processes'} on {site.device}"
    lines = [
        "#!/bin/sh",
        _comment(f"{plan.name}: {plan.found.teacher.name} -> {shape.family} {shape.size}, {devices}"),
        *([_comment(f"({nodes} nodes with {per_node} each, named in {site.hostfile})")] if nodes > 1 else []),
        "#",
        "# Runs this plan; the same command again goes on where it was stopped. Options of `distilc run` may",
        "# follow, for example --until train.",
        "set -eu",
        'plan=$(CDPATH="" cd -- "$(dirname -- "$0")" && pwd)',
        'exec distilc run "$plan" "$@"',
        "",
        "# What runs on the devices, started by hand, for all stages that are not in the store yet:",
        "#",
        *(_comment(f"  {line}") for line in _worker_command(plan)),
    ]
    if nodes > 1:
        lines += [
            "#",
            "# Without ssh between the nodes: the command above on every node, with",
            "#   --no_ssh --node_rank NODE --master_addr FIRST_NODE   (NODE counts from 0)",
            "# before --module, the same --master_port everywhere, plan and workspace on a shared disk.",
        ]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    """A line of a comment, whatever stands in it: a line feed in the name of a folder would begin a command."""
    return "# " + "".join(character if character.isprintable() else "?" for character in text)


def _worker_command(plan: Plan) -> list[str]:
    """A command line that starts the workers by hand, in lines that continue; how a run starts them is in
    `runtime/execution/launch.py`."""
    site = plan.site
    hosts = ""
    if site.hostfile is not None:
        hosts = f"--hostfile {shlex.quote(str(site.hostfile))} --num_nodes {site.nodes} "
    control = f"{site.workspace}/runs/{plan.name}-{plan.key[:8]}/control/by-hand"
    stages = ",".join(plan.stages)
    return [
        f"deepspeed {hosts}--num_accelerators {site.per_node} --no_local_rank --master_port 29500 \\",
        '  --module distilc.runtime worker "$plan" \\',
        f"  --stages {stages} \\",
        f"  --control {shlex.quote(control)}",
    ]
