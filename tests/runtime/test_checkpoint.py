"""Checkpoints: what is loaded is what was saved, under the same conditions, or there is a diagnosis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from distilc.runtime.execution.context import Context, Journal, Progress
from distilc.runtime.failure import Failure
from distilc.runtime.plan.load import load_plan
from distilc.runtime.training.checkpoint import Checkpoints
from distilc.runtime.training.loop import WRITTEN, _take_best

STATE = {"seconds": 1.5}


class Engine:
    """Saves and loads as DeepSpeed's does: one file, whatever is pickled in it."""

    def __init__(self) -> None:
        self.weights = torch.arange(4.0)
        self.more: Any = None

    def save_checkpoint(self, folder: str, tag: str, client_state: dict[str, Any], **options: Any) -> None:
        (Path(folder) / tag).mkdir(parents=True, exist_ok=True)
        torch.save({"weights": self.weights, "more": self.more}, Path(folder) / tag / "states.pt")

    def load_checkpoint(self, folder: str, tag: str, **options: Any) -> tuple[str, Any]:
        file = Path(folder) / tag / "states.pt"
        self.weights = torch.load(file, weights_only=False)["weights"]
        return str(file), None


@pytest.fixture
def context(tmp_path: Path) -> Context:
    plan = load_plan(Path(__file__).with_name("sample_plan.json"))
    (tmp_path / "scratch").mkdir()
    (tmp_path / "folder").mkdir()
    return Context(
        plan=plan, stage=plan.stage("train"), folder=tmp_path / "folder", scratch=tmp_path / "scratch", inputs={},
        rank=0, world=1, device="cpu", journal=Journal(tmp_path / "folder" / "metrics.jsonl"),
        progress=Progress(None, "train"),
    )  # fmt: skip


def saved(context: Context, engine: Any) -> Path:
    Checkpoints(context, engine).save(7, STATE)
    return context.scratch / "checkpoints" / "step-7" / "states.pt"


def refused(context: Context) -> str:
    with pytest.raises(Failure) as caught:
        Checkpoints(context, Engine()).resume()
    assert caught.value.code == "R304" and "--redo train" in caught.value.hint and caught.value.exit_code == 1
    return caught.value.message


def test_a_checkpoint_is_loaded_as_it_was_saved(context: Context) -> None:
    assert Checkpoints(context, Engine()).resume() is None
    saved(context, Engine())
    engine = Engine()
    engine.weights = torch.zeros(4)
    assert Checkpoints(context, engine).resume() == (7, STATE)
    assert engine.weights.tolist() == [0, 1, 2, 3]
    assert Checkpoints(context, engine).last_step() == 7


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_damaged_tensors_are_not_loaded(damage: str, context: Context) -> None:
    file = saved(context, Engine())
    content = bytearray(file.read_bytes())
    place = content.index(torch.arange(4.0).numpy().tobytes())
    content[place + 7] ^= 0x40
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content if damage == "flipped" else content[:-9])
    assert str(file) in refused(context)


@pytest.mark.parametrize("content", ["", "{}", "[]", "\0" * 30, '{"tag": "step-7", "step": "7"}'])
def test_a_damaged_marker_does_not_begin_the_training_anew(content: str, context: Context) -> None:
    saved(context, Engine())
    (context.scratch / "checkpoint.json").write_text(content, "utf-8")
    assert "checkpoint.json" in refused(context)


class Attack:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("attacked"),))


def test_a_checkpoint_is_no_program(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    engine = Engine()
    engine.more = Attack()
    saved(context, engine)
    assert "cannot be loaded" in refused(context)
    assert not (tmp_path / "attacked").exists()


def test_what_a_kill_left_of_a_saving_is_removed_by_the_next(context: Context) -> None:
    saved(context, Engine())
    (context.scratch / "checkpoints" / "step-8").mkdir()
    Checkpoints(context, Engine()).save(9, STATE)
    assert [folder.name for folder in (context.scratch / "checkpoints").iterdir()] == ["step-9"]


def test_damaged_best_weights_are_not_published(context: Context) -> None:
    best = context.scratch / "best"
    best.mkdir()
    (best / "model.safetensors").write_text("weights", "utf-8")
    (best / WRITTEN).write_text(json.dumps({"model.safetensors": {"sha256": "0" * 64, "bytes": 7}}), "utf-8")
    with pytest.raises(Failure, match=r"best weights .*model\.safetensors is not what was written") as caught:
        _take_best(context)
    assert caught.value.code == "R304" and list(context.folder.iterdir()) == []


OWN = """
import sys
from pathlib import Path
import deepspeed, torch
from distilc.runtime.execution.processes import join
from distilc.runtime.training.checkpoint import only_tensors

join("cpu")
for stage, dtype in ((0, torch.bfloat16), (1, torch.float32), (2, torch.bfloat16), (3, torch.float32)):
    module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
    config = {"train_micro_batch_size_per_gpu": 1, "zero_allow_untested_optimizer": True,
              "zero_optimization": {"stage": stage}, "bf16": {"enabled": dtype == torch.bfloat16}}
    optimizer = torch.optim.AdamW(module.parameters())
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=config)
    engine.backward(engine(torch.ones(1, 8, dtype=dtype)).sum())
    engine.step()
    engine.save_checkpoint(sys.argv[1], f"zero-{stage}", {}, exclude_frozen_parameters=True)
    with only_tensors():
        path, _ = engine.load_checkpoint(sys.argv[1], f"zero-{stage}", load_module_strict=False)
    print("loaded", stage, path is not None)
    engine.destroy()
"""


@pytest.mark.slow
def test_deepspeeds_own_checkpoints_are_loaded(tmp_path: Path) -> None:
    """Those of every ZeRO stage hold nothing but what is let through."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", OWN, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    assert [line for line in result.stdout.splitlines() if line.startswith("loaded")] == [
        f"loaded {stage} True" for stage in range(4)
    ]
