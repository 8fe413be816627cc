"""Kill -9 at random moments, run the same command again, compare with a run that nobody disturbed.

    python tests/kill_and_resume.py --kills 10 [--devices 2] [--seed 0] [--keep FOLDER] [--stage labels]

Each kill takes one of: everything at once (power cut), the driver, the launcher, one rank. At the end the
weights of teacher and student and every logged loss must be the same, to the bit; with `--stage labels` the kills
are while a teacher writes labels, and the files of labels and of the mixed targets must be the same. Exit 0: they are.
`tests/test_kill_and_resume.py` runs a short form.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

SPEC = """\
version: 1
name: kill
task: summarization
teacher:
  architecture: {family: marian, encoder_layers: 2, decoder_layers: 3, d_model: 32, heads: 2, ffn_dim: 64, max_positions: 256}
  tokenizer: {kind: bpe, vocab_size: 400}
  train:
    batch: {examples: 16}
    stopping: {max_steps: STEPS}
    validation: {every: {steps: 13}, limit: 16, metrics: [loss]}
student: {decoder_layers: 1}
data:
  train: {builtin: bulletins, split: train, limit: 400}
  validation: {builtin: bulletins, split: validation, limit: 16}
  test: {builtin: bulletins, split: test, limit: 16}
  columns: {source: source, target: target, id: id}
  max_source_tokens: 256
  max_target_tokens: 64
batch: {examples: 16}
loss: {labels: 1.0, logits: 0.8, hidden: {decoder: 3.0}}
stopping: {max_steps: STEPS}
validation: {every: {steps: 13}, limit: 16, metrics: [loss]}
evaluation: {metrics: [rouge2], generation: {beams: 1, max_length: 24}, teacher_generation: {beams: 1, max_length: 24}, speed: null}
"""
# More shards than kills: each kill falls into another part of the labelling.
LABELS = """\
targets: [original, own]
pseudo_labels: {own: {by: teacher, generation: {beams: 2, max_length: 24}, keep: {length_ratio: {max: 50}}}}
"""
SITE = "save_minutes: 0\n"
TITLES = {"train": "training", "labels": "labelling"}  # of the work that is killed
GIVE_UP_SECONDS = 300


def main() -> int:
    """Run the comparison; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps of teacher and student each")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--stage", choices=tuple(TITLES), default="train", help="what is killed")
    parser.add_argument("--rows", type=int, default=4000, help="training rows, where labels are written")
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        spec = SPEC.replace("STEPS", str(options.steps))
        if options.stage == "labels":
            spec = spec.replace("split: train, limit: 400", f"split: train, limit: {options.rows}") + LABELS
        (folder / "kill.yaml").write_text(spec, "utf-8")
        (folder / "site.yaml").write_text(SITE, "utf-8")
        return compare(folder, options.stage, options.kills, options.devices, random.Random(options.seed))


def compare(folder: Path, stage: str, kills: int, devices: int, chance: random.Random) -> int:
    """One run undisturbed, one killed `kills` times; prints what happened. Returns 0 when they agree."""
    if stage == "labels":
        # What is labelled with is trained once; the undisturbed run takes another number of ranks.
        if start(folder, "disturbed", devices, "--until", "teacher-train").wait() != 0:
            print("the training of the labeller failed; its log is above")
            return 1
        shutil.copytree(folder / "disturbed" / "store", folder / "undisturbed" / "store")
        devices_undisturbed, until = 1, ("--until", "targets")
    else:
        devices_undisturbed, until = devices, ("--until", "train")  # nothing after it is compared
    undisturbed = start(folder, "undisturbed", devices_undisturbed, *until)
    if undisturbed.wait() != 0:
        print("the undisturbed run failed; its log is above")
        return 1
    for number in range(1, kills + 1):
        process = start(folder, "disturbed", devices, *until)
        moment = wait_for_a_moment(process, folder / "disturbed", chance, TITLES[stage])
        if process.poll() is not None:
            print(f"the run ended before kill {number} of {kills}: give it more --steps or --rows")
            return 1
        print(f"kill {number}: {kill(process, chance)}, {moment}", flush=True)
        process.wait()
    if start(folder, "disturbed", devices, *until).wait() != 0:
        print("the last run failed; its log is above")
        return 1
    expected, found = results(folder / "undisturbed"), results(folder / "disturbed")
    differences = [name for name in expected if expected[name] != found.get(name)]
    print(f"{len(expected)} results compared, {len(differences)} differ {differences[:5]}")
    return 1 if differences or expected.keys() != found.keys() else 0


def start(folder: Path, workspace: str, devices: int, *more: str) -> subprocess.Popen[bytes]:
    """`distilc run` in a session of its own."""
    command = [sys.executable, "-m", "distilc.compiler", "run", str(folder / "kill.yaml"), "--site",
               str(folder / "site.yaml"), "--workspace", str(folder / workspace), "--devices", str(devices), *more]  # fmt: skip
    return subprocess.Popen(command, start_new_session=True)


def wait_for_a_moment(
    process: subprocess.Popen[bytes], workspace: Path, chance: random.Random, title: str
) -> str:
    """Wait for a random moment: while starting, or some steps (or labelled rows) further on."""
    if chance.random() < 0.2:
        seconds = chance.uniform(0.5, 8.0)
        time.sleep(seconds)
        return f"{seconds:.1f} s after the start"
    first = where(workspace, title)
    further = chance.randint(1, 5) if title == "training" else chance.randint(1, 600)
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while process.poll() is None and time.monotonic() < give_up:
        now = where(workspace, title)
        if now is not None and first is not None and now[0] == first[0] and now[1] >= first[1] + further:
            break
        if now is not None and (first is None or now[0] != first[0]):
            first = now
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 0.3))
    return f"in {where(workspace, title)}"


def where(workspace: Path, title: str) -> tuple[str, float] | None:
    """Stage and step of the work of this title that is under way."""
    for file in sorted(workspace.glob("runs/*/control/*/progress.json"), reverse=True)[:1]:  # each driver has its own
        try:
            progress = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        if progress["title"] == title:
            return progress["stage"], progress["done"]
    return None


def kill(process: subprocess.Popen[bytes], chance: random.Random) -> str:
    """SIGKILL to a random victim; everything that the victim leaves behind must end by itself."""
    family = psutil.Process(process.pid).children(recursive=True)
    ranks = [child for child in family if "worker" in child.cmdline()[3:6]]
    launchers = [child for child in family if "distilc.runtime.launch" in child.cmdline()]
    victim = chance.choice(["everything", "the driver", "the launcher", "one rank"])
    if victim == "one rank" and ranks:
        os.kill(chance.choice(ranks).pid, signal.SIGKILL)
    elif victim == "the launcher" and launchers:
        os.kill(launchers[-1].pid, signal.SIGKILL)
    elif victim == "the driver":
        process.kill()
    else:
        victim = "everything"
        for child in [*family, psutil.Process(process.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    return victim


def results(workspace: Path) -> dict[str, object]:
    """Hashes of the trained weights, of labels and mixed targets, and every logged number but speeds."""
    found: dict[str, object] = {}
    for manifest in workspace.glob("store/*/manifest.json"):
        record = json.loads(manifest.read_text("utf-8"))
        if record["kind"] in ("pseudo-labels", "targets"):
            for name, entry in record["files"].items():
                if name != "metrics.jsonl":  # it has the time in it
                    found[f"{record['stage']} {name}"] = entry["sha256"]
        if record["kind"] != "train":
            continue
        weights = (manifest.parent / "model.safetensors").read_bytes()
        found[f"{record['stage']} weights"] = hashlib.sha256(weights).hexdigest()
        for line in (manifest.parent / "metrics.jsonl").read_text("utf-8").splitlines():
            entry = json.loads(line)
            for name, value in entry["metrics"].items():
                if not name.startswith("speed/"):
                    found[f"{record['stage']} {name} {entry['step']}"] = value
    return found


if __name__ == "__main__":
    sys.exit(main())
