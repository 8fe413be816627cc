"""What a site does to save memory changes nothing: a sharded teacher, checkpointing, offloading.

Through the launcher on two processes: the train stage of a compiled plan, repeated with each way of running it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file
from torch import Tensor

from distilc.compiler.estimates.deepspeed_config import deepspeed_config, teacher_config
from distilc.runtime.keys import run_key
from distilc.runtime.training.cpu_adam import missing_tools

from .test_equivalence import SPEC, before_training, compiled, logs, renamed, step_losses

OWN = SPEC
SHARED = (
    SPEC.replace("student: {encoder_layers: 1, decoder_layers: 2}", "student: {decoder_layers: 2}")
    .replace("hidden: {encoder: 0.5, decoder: 1.0, layer_norm: per-token}", "hidden: {decoder: 1.0}")
    .replace("  embedding: 0.1\n", "")
)
ZERO_STAGES = (0, 2, 3)  # 1 differs from 2 in how gradients are kept alone; test_equivalence.py has it
OFFLOAD = "DISTILC_TEST_OFFLOAD"  # set it to 1 where a build of C++ may take its minutes
NO_GRADIENT = "k_proj.bias"  # softmax does not see it: its gradient is rounding alone, and Adam makes steps of that
Found = tuple[list[float], dict[str, Tensor]]


class Site:
    """A plan of two processes and the ways in which its training was run. Sites share a workspace, so that their
    teacher is trained once."""

    def __init__(self, place: Path, name: str, spec: str) -> None:
        self.place, self.folder, self.store = place, place / name, place / "workspace" / "store"
        self.folder.mkdir()
        (self.folder / "spec.yaml").write_text(spec, "utf-8")
        self.plan = compiled(self.folder, 2, place / "workspace")
        stages = self.plan["stages"]
        (self.train,) = [stage for stage in stages if stage["id"] == "train"]
        self.before = before_training(self.plan)

    def stage(
        self, name: str, zero: int, *, sharded: bool = False, checkpointing: bool = False, offload: Any = "none"
    ) -> dict[str, Any]:
        """The train stage, to be run so."""
        stage = renamed(self.train, name, self.before)
        config = deepspeed_config(precision="fp32", gradient_clipping=0.5, zero=zero, offload=offload)
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 0  # the weights are all small
        execution = stage["execution"]
        execution.pop("signals", None)
        execution["deepspeed"] = config
        if sharded:
            execution["teacher_deepspeed"] = teacher_config("fp32", offload)
            execution["teacher_deepspeed"]["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        if checkpointing:
            execution["checkpointing"] = True
        return stage

    def start(self, stages: list[dict[str, Any]]) -> subprocess.Popen[str]:
        target = self.folder / f"plan-{stages[0]['id']}"
        target.mkdir(exist_ok=True)
        every = [*self.before, *stages, self.train]
        plan = {**self.plan, "stages": every, "key": run_key(every)}
        (target / "plan.json").write_text(json.dumps(plan), "utf-8")
        command = [sys.executable, "-m", "distilc.runtime", "run", str(target), "--until", stages[-1]["id"]]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, stages: list[dict[str, Any]]) -> dict[str, Found]:
        """Name -> the losses of its steps and validations, and the weights of its student."""
        process = self.start(stages)
        output, _ = process.communicate(timeout=1500)
        assert process.returncode == 0, output + logs(self.place)
        return {stage["id"]: self.found(stage) for stage in stages}

    def found(self, stage: Mapping[str, Any]) -> Found:
        weights = load_file(self.store / stage["key"] / "model.safetensors")
        return step_losses(self.place, {"stages": [stage]}, stage["id"]), weights


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("memory")


@pytest.fixture(scope="module")
def own(place: Path) -> tuple[Site, dict[str, Found]]:
    """A student with an encoder of its own, and all terms."""
    site = Site(place, "own", OWN)
    stages = [site.stage(f"zero-{zero}", zero) for zero in ZERO_STAGES]
    stages += [site.stage(f"zero-{zero}-again", zero, checkpointing=True) for zero in ZERO_STAGES]
    stages += [site.stage(f"zero-{zero}-sharded", zero, sharded=True) for zero in ZERO_STAGES]
    stages += [site.stage("zero-3-both", 3, sharded=True, checkpointing=True)]
    return site, site.run(stages)


@pytest.fixture(scope="module")
def shared(place: Path) -> dict[str, Found]:
    """A student whose frozen encoder is the teacher's."""
    site = Site(place, "shared", SHARED)
    stages = [site.stage(f"zero-{zero}", zero) for zero in ZERO_STAGES]
    stages += [site.stage(f"zero-{zero}-again", zero, checkpointing=True) for zero in ZERO_STAGES]
    stages += [site.stage(f"zero-{zero}-sharded", zero, sharded=True) for zero in ZERO_STAGES]
    return site.run(stages)


def difference(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """The largest one of any weight."""
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours if NO_GRADIENT not in name)


def same(one: Found, other: Found) -> bool:
    return one[0] == other[0] and all(one[1][name].equal(other[1][name]) for name in one[1])


@pytest.mark.parametrize("encoder", ["own", "shared"])
@pytest.mark.parametrize("zero", ZERO_STAGES)
def test_a_sharded_teacher_teaches_what_the_whole_one_does(
    request: pytest.FixtureRequest, own: tuple[Site, dict[str, Found]], encoder: str, zero: int
) -> None:
    found = own[1] if encoder == "own" else request.getfixturevalue("shared")
    losses, weights = found[f"zero-{zero}"]
    assert len(losses) == 6 + 2 and losses[5] < losses[0]
    sharded_losses, sharded_weights = found[f"zero-{zero}-sharded"]
    assert sharded_losses == pytest.approx(losses, abs=1e-6)
    assert difference(sharded_weights, weights) < 1e-6


@pytest.mark.parametrize("encoder", ["own", "shared"])
def test_activations_computed_again_are_the_same(
    request: pytest.FixtureRequest, own: tuple[Site, dict[str, Found]], encoder: str
) -> None:
    found = own[1] if encoder == "own" else request.getfixturevalue("shared")
    for zero in ZERO_STAGES:
        (losses, weights), (losses_again, weights_again) = found[f"zero-{zero}"], found[f"zero-{zero}-again"]
        assert losses_again == pytest.approx(losses, abs=1e-6), zero
        assert difference(weights_again, weights) < 1e-6, zero


def test_both_together(own: tuple[Site, dict[str, Found]]) -> None:
    (losses, weights), (losses_of_both, weights_of_both) = own[1]["zero-3"], own[1]["zero-3-both"]
    assert losses_of_both == pytest.approx(losses, abs=1e-6)
    assert difference(weights_of_both, weights) < 1e-6


def test_a_killed_one_goes_on_to_the_bit(own: tuple[Site, dict[str, Found]]) -> None:
    site, found = own
    stage = site.stage("killed", 3, sharded=True, checkpointing=True)
    kill_on_the_way(site, stage)
    assert same(site.run([stage])["killed"], found["zero-3-both"])


@pytest.fixture(scope="module")
def offloaded(place: Path) -> tuple[Site, dict[str, Found]]:
    if os.environ.get(OFFLOAD) != "1":
        pytest.skip(f"offloading is not tried: it compiles DeepSpeed's CPU Adam, for minutes on a busy machine; {OFFLOAD}=1 tries it")
    if missing := missing_tools():
        pytest.skip(f"DeepSpeed's CPU Adam cannot be compiled here: no {' and no '.join(missing)}")
    site = Site(place, "offloaded", OWN)
    stages = [site.stage(f"zero-{zero}", zero) for zero in (1, 2, 3)]
    stages += [site.stage(f"zero-{zero}-optimizer", zero, offload="optimizer") for zero in (1, 2, 3)]
    stages += [site.stage("zero-3-parameters", 3, offload="parameters", sharded=True)]
    return site, site.run(stages)


@pytest.mark.parametrize("way", ["zero-1-optimizer", "zero-2-optimizer", "zero-3-optimizer", "zero-3-parameters"])
def test_an_offloaded_training_ends_where_torchs_adamw_does(
    offloaded: tuple[Site, dict[str, Found]], way: str
) -> None:
    _, found = offloaded
    losses, weights = found[way.rpartition("-")[0]]
    assert found[way][0] == pytest.approx(losses, abs=1e-5)
    assert difference(found[way][1], weights) < 1e-5


def test_a_killed_offloaded_one_goes_on_to_the_bit(offloaded: tuple[Site, dict[str, Found]]) -> None:
    site, found = offloaded
    stage = site.stage("killed-offloaded", 3, offload="parameters", sharded=True)
    kill_on_the_way(site, stage)
    assert same(site.run([stage])["killed-offloaded"], found["zero-3-parameters"])


def kill_on_the_way(site: Site, stage: dict[str, Any]) -> None:
    """Start it with a checkpoint after every step, and kill every process of it after the second."""
    stage["execution"]["save_minutes"] = 0.0
    process = site.start([stage])
    give_up = time.monotonic() + 900
    while process.poll() is None and time.monotonic() < give_up and steps_saved(site, stage) < 2:
        time.sleep(0.02)
    everything = [*psutil.Process(process.pid).children(recursive=True), process]
    for one in everything:
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            one.send_signal(signal.SIGKILL)
    process.wait()
    assert 2 <= steps_saved(site, stage) < 6
    assert not (site.store / stage["key"] / "model.safetensors").exists()


def steps_saved(site: Site, stage: Mapping[str, Any]) -> int:
    for marker in site.store.rglob("checkpoint.json"):
        if stage["key"] in str(marker):
            return int(json.loads(marker.read_text("utf-8"))["step"])
    return 0
