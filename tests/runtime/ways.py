"""The training of a compiled plan, repeated in one launch with each way of running it.

What a start costs is paid once for all of them, and specs that share a workspace have their teacher trained once.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from distilc.compiler.estimates.deepspeed_config import deepspeed_config, teacher_config
from distilc.runtime.plan.keys import run_key, stage_key

Stage = dict[str, Any]
Found = tuple[list[float], dict[str, Tensor]]  # losses of the steps, then of the validations; weights of the student


class Spec:
    """A spec that is compiled for some processes. Its stages are called `NAME/ID`: those of several go into one plan."""

    def __init__(self, workspace: Path, name: str, text: str, num_processes: int) -> None:
        self.workspace, self.name, self.folder = workspace, name, workspace.parent / name
        self.folder.mkdir()
        (self.folder / "spec.yaml").write_text(text, "utf-8")
        self.plan = self._compiled(num_processes)
        stages = copy.deepcopy(self.plan["stages"])
        for stage in stages:
            stage["id"] = f"{name}/{stage['id']}"
            stage["needs"] = {role: f"{name}/{id}" for role, id in stage["needs"].items()}
            if signals := stage["execution"].get("signals"):
                stage["execution"]["signals"] = {side: f"{name}/{id}" for side, id in signals.items()}
        ids = [stage["id"] for stage in stages]
        self.before, self.train = stages[: ids.index(f"{name}/train")], stages[ids.index(f"{name}/train")]

    def _compiled(self, num_processes: int) -> dict[str, Any]:
        command = [sys.executable, "-m", "distilc.compiler", "compile", str(self.folder / "spec.yaml"), "-o",
                   str(self.folder / "compiled"), "--workspace", str(self.workspace), "--devices", str(num_processes)]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        (plan,) = (self.folder / "compiled").rglob("plan.json")
        tree: dict[str, Any] = json.loads(plan.read_text("utf-8"))
        return tree

    def way(
        self, name: str, zero: int, *, micro_batch_tokens: int | None = None, batch_size: int | None = None,
        sharded: bool = False, checkpointing: bool = False, offload: Any = "none", kept: bool = False,
    ) -> Stage:  # fmt: skip
        """The train stage, to be run so: under another name, and under another key, since the hours that it may take
        are others, and never pass. `kept`: it reads the states of the teacher."""
        stage = copy.deepcopy(self.train)
        stage["id"] = f"{self.name}/{name}"
        execution = stage["execution"]
        clipping = execution["deepspeed"]["gradient_clipping"]
        config = deepspeed_config(precision="fp32", gradient_clipping=clipping, zero=zero, offload=offload)
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 0  # the weights are all small
        execution["deepspeed"] = config
        if not kept:
            execution.pop("signals", None)
        if sharded:
            execution["teacher_deepspeed"] = teacher_config("fp32", offload)
            execution["teacher_deepspeed"]["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        if checkpointing:
            execution["checkpointing"] = True
        if micro_batch_tokens is not None:
            execution["micro_batch_tokens"] = micro_batch_tokens
        if batch_size is not None:
            stage["settings"]["batch"]["size"] = batch_size
        stage["settings"]["stopping"]["max_hours"] = 1000.0 + int.from_bytes(stage["id"].encode(), "big") % 999_983
        keys = {before["id"]: before["key"] for before in self.before}
        needs = {role: keys[id] for role, id in stage["needs"].items()}
        stage["key"] = stage_key("train", stage["settings"], needs)
        return stage

    def artifact(self, stage: Stage) -> Path:
        return self.workspace / "store" / str(stage["key"])

    def outcome(self, stage: Stage) -> Found:
        by_step = {}
        for line in (self.artifact(stage) / "metrics.jsonl").read_text("utf-8").splitlines():
            record = json.loads(line)
            if "loss/total" in record["metrics"]:
                by_step[record["step"]] = record["metrics"]["loss/total"]
            if "validation/loss" in record["metrics"]:
                by_step[record["step"] + 1000] = record["metrics"]["validation/loss"]
        return [by_step[step] for step in sorted(by_step)], load_file(self.artifact(stage) / "model.safetensors")


def start(ways: Sequence[tuple[Spec, Sequence[Stage]]], *options: str) -> subprocess.Popen[str]:
    """One run of the ways of all specs, which share a workspace and a number of processes. The run is one of the first."""
    first = ways[0][0]
    ids: dict[str, str] = {}  # key -> id: what two specs have in common is one stage
    stages: list[Stage] = []
    for spec, wanted in ways:
        read = {id for stage in wanted for id in stage["execution"].get("signals", {}).values()}
        for stage in [*spec.before, *wanted]:
            if (stage["kind"] == "signals" and stage["id"] not in read) or stage["key"] in ids:
                continue
            own = spec is first and stage not in wanted
            ids[stage["key"]] = stage["id"].removeprefix(f"{first.name}/") if own else stage["id"]
            stages.append({**stage, "id": ids[stage["key"]]})
        named = {stage["id"]: ids[stage["key"]] for stage in [*spec.before, *wanted] if stage["key"] in ids}
        stages = [
            {**stage, "needs": {role: named.get(id, id) for role, id in stage["needs"].items()}} for stage in stages
        ]
    last = stages[-1]["id"]
    needs = {role: ids[_key(first, id)] for role, id in first.train["needs"].items()}
    execution = {name: value for name, value in first.train["execution"].items() if name != "signals"}
    train = {**first.train, "id": "train", "needs": needs, "execution": execution}
    target = first.folder / f"plan-of-{last.replace('/', '-')}"
    target.mkdir(exist_ok=True)
    plan = {**first.plan, "stages": [*stages, train], "key": run_key([*stages, train])}
    (target / "plan.json").write_text(json.dumps(plan), "utf-8")
    command = [sys.executable, "-m", "distilc.runtime", "run", str(target), "--until", last, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(ways: Sequence[tuple[Spec, Sequence[Stage]]], *options: str) -> dict[str, Found]:
    """`SPEC/WAY` -> what came out of it."""
    process = start(ways, *options)
    output, _ = process.communicate(timeout=1500)
    assert process.returncode == 0, output + logs(ways[0][0].workspace)
    return {stage["id"]: spec.outcome(stage) for spec, stages in ways for stage in stages}


def _key(spec: Spec, id: str) -> str:
    (key,) = [stage["key"] for stage in spec.before if stage["id"] == id]
    return str(key)


def logs(workspace: Path) -> str:
    return "".join(file.read_text("utf-8")[-4000:] for file in workspace.rglob("logs/*.log"))
