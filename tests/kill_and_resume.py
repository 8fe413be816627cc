"""Kill -9 at random moments, run the same command again, compare with a run that nobody disturbed.

    python tests/kill_and_resume.py --kills 10 [--devices 2] [--seed 0] [--keep FOLDER] [--stage labels | --stage all]
        [--stage train labels train] [--phases]

Each kill takes one of: everything at once (power cut), the driver, the launcher, one rank. At the end the
weights of teacher and student and every logged loss must be the same, to the bit; with `--stage labels` the kills
are while a teacher writes labels, and the files of labels and of the mixed targets must be the same. Of several works each
is killed so many times, one after the other; everything must be the same. With `--stage all`
they are spread over all stages of a run that has one of every kind (an array of states, a conversion, a benchmark),
over publications and over the saving of checkpoints; every file of every artifact must be the same but for times and
speeds. No training may go on before the checkpoint that it had. Exit 0: all of this holds.
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
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

Stage = Mapping[str, Any]
Process = subprocess.Popen[bytes]

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
# A student that is trained in two phases.
PHASES = """\
training:
- {loss: {hidden: {decoder: 3.0}}, learning_rate: 1.0e-3}
- {}
"""
# More shards than kills: each kill falls into another part of the labelling.
LABELS = """\
targets: [original, own]
pseudo_labels: {own: {by: teacher, generation: {beams: 2, max_length: 24}, keep: {length_ratio: {max: 50}}}}
"""
# Few rows and many steps: the states of the teacher are worth keeping, so that there are signals.
ALL_ROWS, ALL_STEPS = 96, 60
SPEED = "speed: {batch_size: 8, repeats: 1}"
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
    parser.add_argument("--stage", choices=(*TITLES, "all"), nargs="+", default=["train"], help="what is killed")
    parser.add_argument("--rows", type=int, default=4000, help="training rows, where labels are written")
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    parser.add_argument("--phases", action="store_true", help="the student is trained in two phases")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        steps = ALL_STEPS if options.stage == ["all"] else options.steps
        spec = SPEC.replace("STEPS", str(steps)) + (PHASES if options.phases else "")
        if options.stage == ["all"]:
            spec = spec.replace("split: train, limit: 400", f"split: train, limit: {ALL_ROWS}") + LABELS
            spec = spec.replace("speed: null", SPEED)
        if "labels" in options.stage:
            spec = spec.replace("split: train, limit: 400", f"split: train, limit: {options.rows}") + LABELS
        (folder / "kill.yaml").write_text(spec, "utf-8")
        (folder / "site.yaml").write_text(SITE, "utf-8")
        chance = random.Random(options.seed)
        if options.stage == ["all"]:
            return compare_all(folder, options.kills, options.devices, chance)
        works = [work for work in options.stage for _ in range(options.kills)]
        return compare(folder, works, options.rows, options.devices, chance)


def compare(folder: Path, works: Sequence[str], rows: int, devices: int, chance: random.Random) -> int:
    """One run undisturbed, one killed in each of these works; prints what happened. Returns 0 when they agree."""
    if set(works) == {"labels"}:
        # What is labelled with is trained once; the undisturbed run takes another number of ranks.
        if start(folder, "disturbed", 1, "--until", "teacher-train", "--in-process").wait() != 0:
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
    for number, work in enumerate(works, 1):
        process = start(folder, "disturbed", devices, *until)
        most = 5 if work == "train" else rows // 2
        moment = wait_for_a_moment(process, folder / "disturbed", chance, TITLES[work], most)
        if process.poll() is not None:
            print(f"the run ended before kill {number} of {len(works)}: give it more --steps or --rows")
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


# --- all stages --------------------------------------------------------------------------------------


def compare_all(folder: Path, kills: int, devices: int, chance: random.Random) -> int:
    """One run undisturbed, one killed at moments of every stage; prints what happened. Returns 0 when they agree."""
    if start(folder, "undisturbed", devices).wait() != 0:
        print("the undisturbed run failed; its log is above")
        return 1
    (plan_file,) = (folder / "undisturbed" / "runs").glob("*/plan.json")
    stages = json.loads(plan_file.read_text("utf-8"))["stages"]
    moments = moments_of(stages, kills, chance)
    workspace, states, problems = folder / "disturbed", list[str](), list[str]()
    for number, (where_to, stage) in enumerate(moments, 1):
        process = start(folder, "disturbed", devices)
        with watched(workspace, stages, problems):
            family = wait_for(process, workspace, where_to, stage, chance)
            if process.poll() is not None:
                print(f"the run ended before kill {number} of {kills} ({where_to} of {stage['id']})")
                return 1
            victim = kill(process, chance, family)
            process.wait()
        states.append(state_of(workspace, stages))
        print(f"kill {number}: {victim}; meant for {where_to} of {stage['id']}; it was in {states[-1]}", flush=True)
    with watched(workspace, stages, problems):
        if start(folder, "disturbed", devices).wait() != 0:
            print("the last run failed; its log is above")
            return 1
    for problem in problems:
        print(problem)
    counted = {kind: sum(kind in state for state in states) for kind in ("publication", "saving")}
    killed = {stage["id"] for stage in stages} & {state.split(",")[0] for state in states}
    print(f"{len(states)} kills in {len(killed)} of {len(stages)} stages; {counted['publication']} during a publication, "
          f"{counted['saving']} during the saving of a checkpoint; {len(problems)} trainings went back")  # fmt: skip
    expected, found = contents(folder / "undisturbed"), contents(workspace)
    differences = [name for name in expected if expected[name] != found.get(name)]
    left = [path.name for path in (workspace / "store" / ".work").iterdir()]
    print(f"{len(expected)} results compared, {len(differences)} differ {differences[:5]}; left in .work: {left}")
    return 1 if differences or expected.keys() != found.keys() or problems or left else 0


def moments_of(stages: Sequence[Stage], kills: int, chance: random.Random) -> list[tuple[str, Stage]]:
    """(what is to be killed, in which stage), in the order of the stages: each is killed at work and in its publication,
    trainings more often. Of more than there are some are doubled, of fewer some are drawn."""
    found = []
    for stage in stages:
        kinds = ["work", "publication"]
        if stage["kind"] == "train":
            kinds = ["start", "work", "work", "saving", "saving", "saving", "publication"]
        found += [(kind, stage) for kind in kinds]
    numbers = sorted(chance.choices(range(len(found)), k=max(0, kills - len(found))) + list(range(len(found))))
    return [found[number] for number in sorted(chance.sample(numbers, kills))]


def wait_for(
    process: Process, workspace: Path, what: str, stage: Stage, chance: random.Random
) -> Family | None:
    """Until the moment is there, or the stage is over, or nothing comes. Moments that pass at once are not lost to the
    search for whom to kill: that was done before."""
    store, give_up = workspace / "store", time.monotonic() + GIVE_UP_SECONDS
    work, scratch = store / ".work" / stage["key"], store / ".work" / f"{stage['key']}.scratch"
    if what == "start":
        time.sleep(chance.uniform(1.0, 10.0))
        return None
    if what == "work":
        delay, began = chance.uniform(0.0, 3.0 if stage["kind"] in ("train", "benchmark") else 0.3), None
        while process.poll() is None and time.monotonic() < give_up and not (store / stage["key"]).exists():
            if began is None and progress_of(workspace).get("stage") == stage["id"]:
                began = time.monotonic()
            if began is not None and time.monotonic() > began + delay:
                break
            time.sleep(0.002)
        return None
    since = step_of(scratch)
    further = (-1 if since is None else since) + chance.randint(1, 5)
    family, searched = family_of(process), time.monotonic()
    while process.poll() is None and time.monotonic() < give_up and not (store / stage["key"]).exists():
        if what == "publication" and (work / "manifest.json").exists():
            break
        if what == "saving" and is_saving(scratch) and (step_of(scratch) or 0) >= further:
            break
        if what == "publication" and len(family.ranks) < 2 and time.monotonic() > searched + 0.5:
            family, searched = family_of(process), time.monotonic()
        if what == "saving" and time.monotonic() > searched + 2.0:
            family, searched = family_of(process), time.monotonic()
    return family


def state_of(workspace: Path, stages: Sequence[Stage]) -> str:
    """What a kill left, in words: the stage, and whether it was being published or a checkpoint being saved."""
    work = workspace / "store" / ".work"
    words = [str(progress_of(workspace).get("stage", "the start"))]
    for stage in stages:
        published = (workspace / "store" / stage["key"]).exists()
        left = (work / f"{stage['key']}.scratch").exists()
        if (work / stage["key"] / "manifest.json").exists() or (published and left):
            words.append(f"publication of {stage['id']}{' after the rename' if published else ''}")
        if is_saving(work / f"{stage['key']}.scratch"):
            words.append(f"saving after step {step_of(work / (stage['key'] + '.scratch'))}")
    return ", ".join(words)


@contextlib.contextmanager
def watched(workspace: Path, stages: Sequence[Stage], problems: list[str]) -> Iterator[None]:
    """Meanwhile, the last complete checkpoint of a training never becomes an earlier one, and is there until the
    artifact is; what happens otherwise is added to the problems."""
    store, over = workspace / "store", threading.Event()
    trainings = {stage["id"]: stage["key"] for stage in stages if stage["kind"] == "train"}
    steps = {id: step_of(store / ".work" / f"{key}.scratch") for id, key in trainings.items()}

    def watch() -> None:
        while not over.wait(0.005):
            for id, key in trainings.items():
                step = step_of(store / ".work" / f"{key}.scratch")
                before = steps[id]
                if before is not None and (step or 0) < before and not (store / key).exists():
                    problems.append(f"{id} went back from step {before} to {step}")
                steps[id] = step

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def progress_of(workspace: Path) -> dict[str, Any]:
    """Of the driver that began last; {}: it has none yet."""
    folders = sorted(workspace.glob("runs/*/control/*-*-*"))  # named by the time
    with contextlib.suppress(OSError, ValueError, IndexError):
        found: dict[str, Any] = json.loads((folders[-1] / "progress.json").read_text("utf-8"))
        return found
    return {}


def step_of(scratch: Path) -> int | None:
    """Of the last complete checkpoint; None: there is none."""
    try:
        return int(json.loads((scratch / "checkpoint.json").read_text("utf-8"))["step"])
    except (OSError, ValueError):
        return None


def is_saving(scratch: Path) -> bool:
    """Is there a checkpoint that is not complete, or one too many?"""
    step = step_of(scratch)
    try:
        return any(folder.name != f"step-{step}" for folder in (scratch / "checkpoints").glob("step-*"))
    except OSError:
        return False


def contents(workspace: Path) -> dict[str, object]:
    """The hash of every file of every artifact that has no times or speeds in it, and every number that was logged."""
    found = results(workspace)
    for manifest in workspace.glob("store/*/manifest.json"):
        record = json.loads(manifest.read_text("utf-8"))
        for name, entry in record["files"].items():
            if name == "speed.json":
                found[f"{record['stage']} {name}"] = "there"
            elif name not in ("metrics.jsonl", "training.json"):
                found[f"{record['stage']} {name}"] = entry["sha256"]
        if record["kind"] == "train":
            training = json.loads((manifest.parent / "training.json").read_text("utf-8"))
            found |= {f"{record['stage']} {name}": value for name, value in training.items() if name != "seconds"}
    return found


# --- both --------------------------------------------------------------------------------------------


def start(folder: Path, workspace: str, devices: int, *more: str) -> subprocess.Popen[bytes]:
    """`distilc run` in a session of its own."""
    command = [sys.executable, "-m", "distilc.compiler", "run", str(folder / "kill.yaml"), "--site",
               str(folder / "site.yaml"), "--workspace", str(folder / workspace), "--devices", str(devices), *more]  # fmt: skip
    return subprocess.Popen(command, start_new_session=True)


def wait_for_a_moment(
    process: subprocess.Popen[bytes], workspace: Path, chance: random.Random, title: str, most: int
) -> str:
    """Wait for a random moment: while starting, or some steps (or labelled rows), `most` at the most, further on."""
    if chance.random() < 0.2:
        seconds = chance.uniform(0.5, 8.0)
        time.sleep(seconds)
        return f"{seconds:.1f} s after the start"
    first = where(workspace, title)
    further = chance.randint(1, most)
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


@dataclass
class Family:
    """The processes of a run, by pid; of the ranks, rank 0 is the first to have been started."""

    everything: list[int]
    ranks: list[int]
    launchers: list[int]


def family_of(process: Process) -> Family:
    family = Family([], [], [])
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                command = child.cmdline()
                family.everything.append(child.pid)
                if "worker" in command[3:6]:
                    family.ranks.append(child.pid)
                elif "distilc.runtime.execution.launcher" in command:
                    family.launchers.append(child.pid)
    family.everything.append(process.pid)
    return family


def kill(process: Process, chance: random.Random, family: Family | None = None) -> str:
    """SIGKILL to a random victim; everything that the victim leaves behind must end by itself."""
    family = family or family_of(process)
    victim = chance.choice(["everything", "the driver", "the launcher", "one rank"])
    pids = family.everything
    if victim == "one rank" and family.ranks:
        pids = [chance.choice(family.ranks)]
    elif victim == "the launcher" and family.launchers:
        pids = family.launchers[-1:]
    elif victim == "the driver":
        pids = [process.pid]
    else:
        victim = "everything"
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
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
