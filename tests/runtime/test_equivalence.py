"""The same plan under ZeRO 0 to 3, on one and two processes and with other micro-batch splits: the same losses.

Both halves for real, through the launcher. One launch for each number of processes: the train stage of a
compiled plan is repeated there with each way of running it.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distilc.runtime.keys import run_key, stage_key

SPEC = """\
version: 1
name: equivalence
task: summarization
teacher:
  architecture: {family: bart, encoder_layers: 2, decoder_layers: 3, d_model: 32, heads: 2, ffn_dim: 64, max_positions: 256}
  tokenizer: {kind: bpe, vocab_size: 400}
  train:
    batch: {examples: 16}
    stopping: {max_steps: 2}
    validation: {limit: 8, metrics: [loss]}
student: {encoder_layers: 1, decoder_layers: 2}
data:
  train: {builtin: bulletins, split: train, limit: 96}
  validation: {builtin: bulletins, split: validation, limit: 8}
  test: {builtin: bulletins, split: test, limit: 8}
  columns: {source: source, target: target, id: id}
  max_source_tokens: 256
  max_target_tokens: 64
batch: {examples: 24}
training: {learning_rate: 3.0e-3, dropout: 0.0, warmup: {steps: 1}, gradient_clipping: 0.5}
loss:
  labels: {weight: 1.0, smoothing: 0.1}
  logits: 0.8
  hidden: {encoder: 0.5, decoder: 1.0, layer_norm: per-token}
  attention: {decoder_cross: 2.0}
  cosine: 0.5
  embedding: 0.1
stopping: {max_steps: 6}
validation: {every: {steps: 3}, limit: 8, metrics: [loss]}
evaluation: {metrics: [rouge2], speed: null}
"""
ZERO_STAGES = (0, 1, 2, 3)
SMALL_MICRO_BATCH = 700
NUM_STEPS = 6


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """Way of running -> the losses of its steps."""
    folder = tmp_path_factory.mktemp("equivalence")
    (folder / "spec.yaml").write_text(SPEC, "utf-8")
    found: dict[str, list[float]] = {}
    for num_processes in (1, 2):
        plan = compiled(folder, num_processes)
        names = repeat_training(plan, num_processes)
        target = folder / f"plan-{num_processes}"
        target.mkdir()
        (target / "plan.json").write_text(json.dumps(plan), "utf-8")
        command = [sys.executable, "-m", "distilc.runtime", "run", str(target), "--until", names[-1]]
        result = subprocess.run(command, capture_output=True, text=True, timeout=400)
        assert result.returncode == 0, result.stdout + result.stderr + logs(folder)
        for name in names:
            found[name] = step_losses(folder, plan, name)
    return found


def compiled(folder: Path, num_processes: int, workspace: Path | None = None) -> dict[str, Any]:
    out = folder / f"compiled-{num_processes}"
    command = [sys.executable, "-m", "distilc.compiler", "compile", str(folder / "spec.yaml"), "-o", str(out),
               "--workspace", str(workspace or folder / "workspace"), "--devices", str(num_processes)]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (plan,) = out.rglob("plan.json")
    tree: dict[str, Any] = json.loads(plan.read_text("utf-8"))
    return tree


def repeat_training(plan: dict[str, Any], num_processes: int) -> list[str]:
    """Replace what follows the student by one train stage for each way of running it; their ids."""
    stages = before_training(plan)
    (train,) = [stage for stage in plan["stages"] if stage["id"] == "train"]
    # Alone, a process has nothing to share: 3, which gathers, stands for 1 and 2.
    ways = [(zero, None) for zero in (ZERO_STAGES if num_processes > 1 else (0, 3))] + [(0, SMALL_MICRO_BATCH)]
    if num_processes > 1:
        ways.append((2, SMALL_MICRO_BATCH))
    names = []
    for zero, micro_batch_tokens in ways:
        name = f"processes-{num_processes}-zero-{zero}" + ("" if micro_batch_tokens is None else "-small")
        stage = renamed(train, name, stages)
        stage["execution"]["deepspeed"]["zero_optimization"]["stage"] = zero
        stage["execution"]["deepspeed"]["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        if micro_batch_tokens is not None:
            stage["execution"]["micro_batch_tokens"] = micro_batch_tokens
        stages.append(stage)
        names.append(stage["id"])
    for zero in (0,) if num_processes == 1 else (0, 2):  # one row a step: of two processes one has none
        one_row = copy.deepcopy(train)
        one_row["settings"]["batch"]["size"] = 1
        stage = renamed(one_row, f"one-row-{num_processes}-zero-{zero}", stages)
        stage["execution"]["deepspeed"]["zero_optimization"]["stage"] = zero
        stages.append(stage)
        names.append(stage["id"])
    plan["stages"] = [*stages, train]
    plan["key"] = run_key(plan["stages"])
    return names


def renamed(train: dict[str, Any], name: str, stages: list[dict[str, Any]]) -> dict[str, Any]:
    """A training once more under another name, and under another key: the hours that it may take are others, and
    never pass. `stages`: what it needs."""
    stage = copy.deepcopy(train)
    stage["id"] = name
    stage["settings"]["stopping"]["max_hours"] = 1000.0 + int.from_bytes(name.encode(), "big") % 999_983
    keys = {stage["id"]: stage["key"] for stage in stages}
    stage["key"] = stage_key("train", stage["settings"], {role: keys[id] for role, id in stage["needs"].items()})
    return stage


def before_training(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The stages of a plan up to the training of its student."""
    ids = [stage["id"] for stage in plan["stages"]]
    return list(plan["stages"][: ids.index("train")])


def step_losses(folder: Path, plan: dict[str, Any], name: str) -> list[float]:
    (stage,) = [stage for stage in plan["stages"] if stage["id"] == name]
    lines = (folder / "workspace" / "store" / stage["key"] / "metrics.jsonl").read_text("utf-8").splitlines()
    by_step = {}
    for line in lines:
        record = json.loads(line)
        if "loss/total" in record["metrics"]:
            by_step[record["step"]] = record["metrics"]["loss/total"]
        if "validation/loss" in record["metrics"]:
            by_step[record["step"] + 1000] = record["metrics"]["validation/loss"]
    return [by_step[step] for step in sorted(by_step)]


def logs(folder: Path) -> str:
    return "".join(file.read_text("utf-8")[-4000:] for file in folder.rglob("logs/*.log"))


def test_losses_do_not_depend_on_how_the_plan_runs(losses: dict[str, list[float]]) -> None:
    ways = {name: found for name, found in losses.items() if name.startswith("processes")}
    assert len(ways) == 3 + 6
    reference = ways["processes-1-zero-0"]
    assert len(reference) == NUM_STEPS + 2  # and two validations
    assert reference[0] > reference[NUM_STEPS - 1]
    for name, found in ways.items():
        assert found == pytest.approx(reference, abs=1e-5), name


def test_a_process_without_examples_changes_nothing(losses: dict[str, list[float]]) -> None:
    """Every term is on, of the encoder too: what that process runs to keep step counts in none."""
    reference = losses["one-row-1-zero-0"]
    assert len(reference) == NUM_STEPS + 2
    for zero in (0, 2):
        assert losses[f"one-row-2-zero-{zero}"] == pytest.approx(reference, abs=1e-5)
