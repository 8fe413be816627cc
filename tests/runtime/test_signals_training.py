"""A training that reads the teacher's states ends where one that computes them does: on two processes, after two
epochs, under ZeRO 0 to 3."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from distilc.runtime.keys import run_key

from .test_equivalence import SPEC, before_training, compiled, logs, renamed, step_losses

SPEC_KEPT = (
    SPEC.replace("student: {encoder_layers: 1, decoder_layers: 2}", "student: {decoder_layers: 2}")
    .replace("hidden: {encoder: 0.5, decoder: 1.0, layer_norm: per-token}", "hidden: {decoder: 1.0}")
    .replace("  attention: {decoder_cross: 2.0}\n", "")
    .replace("  embedding: 0.1\n", "")
    .replace("stopping: {max_steps: 6}", "stopping: {max_steps: 9}")
)
NO_GRADIENT = "k_proj.bias"  # softmax does not see it: its gradient is rounding alone, and Adam makes steps of that
WAYS = {"computed": (0, False), **{f"kept-zero-{zero}": (zero, True) for zero in (0, 1, 2, 3)}}
Found = tuple[list[float], dict[str, Tensor]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    """Way of running -> its losses and the weights that it ends with."""
    folder = tmp_path_factory.mktemp("signals")
    (folder / "spec.yaml").write_text(SPEC_KEPT, "utf-8")
    plan = compiled(folder, 2)
    (train,) = [stage for stage in plan["stages"] if stage["id"] == "train"]
    assert train["execution"]["signals"] == {"encoder": "signals-encoder", "decoder": "signals-decoder"}
    plan["stages"] = before_training(plan)
    for name, (zero, kept) in WAYS.items():
        stage = renamed(train, name, plan["stages"])
        stage["execution"]["deepspeed"]["zero_optimization"]["stage"] = zero
        stage["execution"]["deepspeed"]["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        if not kept:
            del stage["execution"]["signals"]
        plan["stages"].append(stage)
    keys = {stage["id"]: stage["key"] for stage in plan["stages"]}
    plan["stages"].append(train)
    plan["key"] = run_key(plan["stages"])
    target = folder / "plan"
    target.mkdir()
    (target / "plan.json").write_text(json.dumps(plan), "utf-8")
    command = [sys.executable, "-m", "distilc.runtime", "run", str(target), "--until", list(WAYS)[-1]]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr + logs(folder)
    weights = {name: folder / "workspace" / "store" / keys[name] / "model.safetensors" for name in WAYS}
    _check_bytes(folder, plan)
    return {name: (step_losses(folder, plan, name), load_file(weights[name])) for name in WAYS}


def _check_bytes(folder: Path, plan: dict[str, Any]) -> None:
    """What the compiler predicts, now that the data are there, is what was written."""
    from distilc.compiler.pipeline import compile_spec, lower_runs
    from distilc.compiler.plan.signals import choose_signals
    from distilc.compiler.resolve.site import SiteOptions, load_site

    site = load_site(SiteOptions(workspace=folder / "workspace")).site
    assert site is not None
    plans, _ = lower_runs(compile_spec(folder / "spec.yaml", (), site), site, fingerprints=True)
    for signals in choose_signals(plans):
        artifact = folder / "workspace" / "store" / signals.key
        assert signals.num_bytes == sum(file.stat().st_size for file in artifact.glob("*.npy"))


def test_losses_and_weights_are_those_of_a_teacher_at_work(found: dict[str, Found]) -> None:
    losses, weights = found["computed"]
    assert len(losses) == 9 + 3 and losses[0] > losses[8]
    for name, (other, others) in found.items():
        assert other == pytest.approx(losses, abs=1e-5), name
        assert set(others) == set(weights)
        for parameter, value in weights.items():
            if not parameter.endswith(NO_GRADIENT):
                assert float((others[parameter] - value).abs().max()) < 1e-5, (name, parameter)
