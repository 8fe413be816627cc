"""A student of one spec is the teacher of another, from the command line to the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distilc.runtime.execution import worker
from distilc.runtime.execution.control import Control
from distilc.runtime.failure import Failure

LARGE = """\
version: 1
name: large
task: summarization
teacher:
  architecture: {family: marian, encoder_layers: 1, decoder_layers: 4, d_model: 32, heads: 2, ffn_dim: 64, max_positions: 128}
  tokenizer: {vocab_size: 400}
  train: {batch: {examples: 8}, stopping: {max_steps: 1}, validation: {limit: 4, metrics: [loss]}}
student: {decoder_layers: 2}
data:
  train: {builtin: bulletins, split: train, limit: 16}
  validation: {builtin: bulletins, split: validation, limit: 4}
  test: {builtin: bulletins, split: test, limit: 4}
  max_source_tokens: 128
  max_target_tokens: 32
batch: {examples: 8}
stopping: {max_steps: 1}
validation: {limit: 4, metrics: [loss]}
evaluation: {speed: null}
"""
SMALL = """\
extends: large.yaml
name: small
teacher: {spec: large.yaml}
student: {decoder_layers: 1}
loss: {logits: 1.0}
"""


@pytest.mark.slow
def test_the_student_of_one_spec_teaches_that_of_another(
    distilc: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "large.yaml").write_text(LARGE, "utf-8")
    (tmp_path / "small.yaml").write_text(SMALL, "utf-8")
    assert "large/train: done" in distilc("run", "small.yaml", "--in-process", "--until", "train")
    plan = json.loads((tmp_path / ".distilc" / "plans" / "small" / "plan.json").read_text("utf-8"))
    made = {stage["id"]: tmp_path / ".distilc" / "store" / stage["key"] for stage in plan["stages"]}
    record = json.loads((made["student"] / "distilc.json").read_text("utf-8"))
    assert record["teacher"]["decoder_layers"] == 2 and record["decoder_layers"] == 1
    assert plan["teacher"]["parameters"] == record["teacher"]["parameters"]
    # It reads what its teacher reads: the tokenizer of the other spec, through both students.
    files = [made[id] / "tokenizer.json" for id in ("large/tokenizer", "large/train", "train")]
    assert len({file.read_bytes() for file in files}) == 1
    assert "done in" not in distilc("run", "large.yaml", "--in-process", "--until", "train")  # its own run finds all of it in the store


@pytest.mark.parametrize(("stage", "path"), [("large/train", "large/training"), ("train", "training")])
def test_a_failure_points_into_the_spec_that_its_stage_is_of(
    stage: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise Failure("R301", "the loss is not finite", spec_path="training")

    monkeypatch.setattr(worker, "run_stage", fail)
    monkeypatch.setattr(worker, "require", lambda stages: None)
    monkeypatch.setattr(worker, "join", lambda device: SimpleNamespace(rank=0))
    monkeypatch.setattr(worker, "StopRequest", lambda *_: SimpleNamespace(agreed=lambda: False))
    site = SimpleNamespace(device="cpu", workspace=str(tmp_path), shared_stores=(), scratch=None)
    plan: Any = SimpleNamespace(site=site, stage=lambda id: SimpleNamespace(id=id, kind="train"))
    control = Control(tmp_path / "control")
    control.folder.mkdir()
    assert worker.work(plan, [stage], control) == 1
    failure = control.failure()
    assert failure is not None and failure.spec_path == path
