"""A run over a hostfile of two nodes: the losses of one machine, nothing left after the death of its driver.

    python tests/cluster/two_nodes.py [--steps 60] [--keep FOLDER] [--program ../shared/cluster/two-nodes]

The program makes a login node and two compute nodes of this machine, each with its own processes, network and host
name (it needs root, and Debian's slurm-wlm munge openssh-server iproute2 procps). On the login node a run over both is
started, and its driver killed in the middle of a training: after a minute no process of it may be left on any node.
Then the same command is run again, to its end. Every loss must be that of the same run on one machine with two
processes. Exit 0: so it is; 77: this machine cannot show it, and why. `test_two_nodes.py` runs the short form.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("ip", "munged", "nsenter", "pgrep", "slurmctld", "slurmd", "ssh", "sshd", "taskset", "unshare")
GONE_SECONDS = 60
HELD_SECONDS = 22  # a little longer than a worker hears nothing before it takes its driver for dead
GIVE_UP_SECONDS = 240
TOLERANCE = 1e-6  # of a loss of about 6: floating-point noise of another placement

SPEC = """\
version: 1
name: nodes
task: summarization
teacher:
  architecture: {family: bart, encoder_layers: 1, decoder_layers: 2, d_model: 32, heads: 2, ffn_dim: 64, max_positions: 128}
  tokenizer: {kind: bpe, vocab_size: 600}
  train: {batch: {examples: 8}, stopping: {max_steps: STEPS}, training: {warmup: {steps: 2}}, validation: {every: {steps: 10}, metrics: [loss]}}
student: {decoder_layers: 1}
loss: {labels: 1.0, logits: 0.5, hidden: {decoder: 1.0}}
data:
  train: {builtin: bulletins, split: train, limit: 200}
  validation: {builtin: bulletins, split: validation, limit: 16}
  test: {builtin: bulletins, split: test, limit: 8}
  max_source_tokens: 96
  max_target_tokens: 32
batch: {examples: 8}
training: {warmup: {steps: 2}}
stopping: {max_steps: 6}
validation: {every: {steps: 3}, metrics: [loss]}
evaluation: {speed: null, generation: {beams: 1, max_length: 12}, teacher_generation: {beams: 1, max_length: 12}}
"""


class NotHere(Exception):
    """Why this machine cannot show it."""


def main() -> int:
    """Run it; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="of the training whose driver is killed")
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    parser.add_argument("--program", type=Path, default=ROOT.parent / "shared" / "cluster" / "two-nodes")
    parser.add_argument("--possible", action="store_true", help="only say whether this machine can show it")
    options = parser.parse_args()
    try:
        require_program(options.program)
        if options.possible:
            return 0
    except NotHere as reason:
        print(f"NOT RUN: two nodes on this machine: {reason}", flush=True)
        return 77
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # the nodes are taken down, too
    with tempfile.TemporaryDirectory(prefix="two-nodes-") as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spec.yaml").write_text(SPEC.replace("STEPS", str(options.steps)), "utf-8")
        (folder / "hosts").write_text("n1 slots=1\nn2 slots=1\n", "utf-8")
        (folder / "two.yaml").write_text(
            "save_minutes: 0\ndevices: {kind: cpu, nodes: 2, per_node: 1, hostfile: hosts}\n", "utf-8"
        )
        (folder / "one.yaml").write_text("save_minutes: 0\ndevices: {kind: cpu, per_node: 2}\n", "utf-8")
        with cluster(options.program, folder / "cluster") as login:
            return show(folder, login)


def require_program(program: Path) -> None:
    """Raises `NotHere`."""
    if not program.is_file():
        raise NotHere(f"there is no {program}")
    if os.geteuid() != 0:
        raise NotHere("it takes root")
    paths = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if missing := [tool for tool in TOOLS if shutil.which(tool, path=paths) is None]:
        raise NotHere(f"not installed: {', '.join(missing)} (apt-get install slurm-wlm munge openssh-server iproute2 procps)")
    if any(Path("/run/netns").glob("distilc-*")):
        raise NotHere("such nodes are up already (/run/netns/distilc-*)")
    if subprocess.run(["unshare", "--pid", "--net", "--uts", "--fork", "true"], capture_output=True).returncode != 0:
        raise NotHere("it does not let root make namespaces")


@contextmanager
def cluster(program: Path, folder: Path) -> Iterator[list[str]]:
    """The nodes; yields the start of a command on the login node."""
    folder.mkdir(exist_ok=True)
    log = folder / "up.log"
    try:
        with log.open("w") as output:  # a file: what it leaves behind would hold a pipe open
            done = subprocess.run([program, "up", folder], stdout=output, stderr=subprocess.STDOUT, timeout=120)
        assert done.returncode == 0, log.read_text("utf-8", "replace")
        cores = sorted(os.sched_getaffinity(0))
        for i, node in enumerate(("n1", "n2")):  # a core each, as on one machine with two processes
            sshd = (folder / f"sshd-{node}.pid").read_text("utf-8").strip()
            core = str(cores[i % len(cores)])
            subprocess.run([program, "on", folder, node, "taskset", "-acp", core, sshd], check=True, capture_output=True)
        yield [str(program), "on", str(folder), "login"]
    finally:
        subprocess.run([program, "down", folder], timeout=60)


def show(folder: Path, login: list[str]) -> int:
    """Both runs; 0 when nothing differs."""
    print("one machine, two processes", flush=True)
    if start(folder, [], "one").wait(GIVE_UP_SECONDS) != 0:
        return failed(folder, "one", "the run on one machine failed")
    print("two nodes", flush=True)
    run = start(folder, login, "two")
    where = wait_for_training(folder / "two", run)
    if where is None:
        return failed(folder, "two", "the run over two nodes came to no training")
    nodes = {os.readlink(f"/proc/{rank.pid}/ns/pid") for rank in ranks_of(folder / "two")}
    if len(nodes) != 2:
        return failed(folder, "two", f"its workers are on {len(nodes)} nodes")
    driver = next(child for child in psutil.Process(run.pid).children(recursive=True) if "distilc.runtime" in child.cmdline())
    driver.send_signal(signal.SIGKILL)
    run.wait(30)
    seconds = seconds_until_gone(folder / "two", held=HELD_SECONDS)
    if seconds is None:
        left = [" ".join(rank.cmdline()[:6]) for rank in ranks_of(folder / "two")]
        return failed(folder, "two", f"{GONE_SECONDS} s after the death of the driver there are still {left}")
    print(f"driver killed at step {where}; no worker left after {seconds:.0f} s", flush=True)
    if "train" in losses(folder / "two"):
        return failed(folder, "two", "nothing was left to do: give it more --steps")
    if start(folder, login, "two").wait(GIVE_UP_SECONDS) != 0:
        return failed(folder, "two", "the same command did not go on")
    return compare(losses(folder / "one"), losses(folder / "two"))


def start(folder: Path, on: list[str], name: str) -> subprocess.Popen[bytes]:
    """`distilc run` in the workspace of this name, here or on a node."""
    command = [sys.executable, "-m", "distilc.compiler", "run", "spec.yaml", "--site", f"{name}.yaml", "--workspace", name,
               "--until", "train", "--offline"]  # fmt: skip
    return subprocess.Popen([*on, *command], cwd=folder, stdin=subprocess.DEVNULL)


def wait_for_training(workspace: Path, run: subprocess.Popen[bytes]) -> int | None:
    """The step at which the teacher's training was seen; None: it was not."""
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while run.poll() is None and time.monotonic() < give_up:
        for file in workspace.glob("runs/*/control/*/progress.json"):
            try:
                progress = json.loads(file.read_text("utf-8"))
            except (OSError, ValueError):
                continue
            if progress["title"] == "training" and progress["done"] >= 3:
                return int(progress["done"])
        time.sleep(0.05)
    return None


def ranks_of(workspace: Path) -> list[psutil.Process]:
    """Workers and their launchers, on whatever node; this machine sees the processes of all."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if "worker" in words and any(word.startswith(f"{workspace}/") for word in words):
            found.append(process)
    return found


def seconds_until_gone(workspace: Path, held: float) -> float | None:
    """How long workers live on; None: too long. `held`: for so long they stand still, since so small a training would
    be over before a node that sees nothing but a file is sure of the driver's death."""
    began = time.monotonic()
    ranks = [rank for rank in ranks_of(workspace) if "distilc.runtime.execution.launcher" not in rank.cmdline()]
    for rank in ranks:
        rank.suspend()
    time.sleep(held)
    for rank in ranks:
        rank.resume()
    while ranks_of(workspace):
        if time.monotonic() - began > GONE_SECONDS:
            return None
        time.sleep(0.2)
    return time.monotonic() - began


def losses(workspace: Path) -> dict[str, dict[str, float]]:
    """Stage -> loss by name and step, of the trainings that are published."""
    found: dict[str, dict[str, float]] = {}
    for manifest in workspace.glob("store/*/manifest.json"):
        record = json.loads(manifest.read_text("utf-8"))
        if record["kind"] == "train":
            rows = map(json.loads, (manifest.parent / "metrics.jsonl").read_text("utf-8").splitlines())
            found[record["stage"]] = {
                f"{name} at step {row['step']}": value
                for row in rows
                for name, value in row["metrics"].items()
                if "loss" in name and "share" not in name
            }
    return found


def compare(one: dict[str, dict[str, float]], two: dict[str, dict[str, float]]) -> int:
    expected = {f"{stage}: {name}": value for stage, values in one.items() for name, value in values.items()}
    measured = {f"{stage}: {name}": value for stage, values in two.items() for name, value in values.items()}
    if expected.keys() != measured.keys() or len(one) != 2:
        print(f"not the same losses were written: {sorted(expected.keys() ^ measured.keys())[:10]}")
        return 1
    differences = {name: abs(expected[name] - measured[name]) for name in expected}
    far = {name: value for name, value in differences.items() if not value <= TOLERANCE}
    print(f"{len(expected)} losses compared, {len(far)} differ {list(far.items())[:5]}; largest {max(differences.values()):.1e}")
    return 1 if far else 0


def failed(folder: Path, name: str, why: str) -> int:
    for log in sorted((folder / name).glob("runs/*/logs/*.log")):
        print(f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-3000:]}")
    print(why, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
