"""Two phases in one spec, and the same two trainings as two specs, of which the second makes its student of the first
one's: the same weights, to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

BASE = """\
version: 1
name: phased
task: summarization
teacher:
  architecture: {family: marian, encoder_layers: 2, decoder_layers: 3, d_model: 32, heads: 2, ffn_dim: 64, max_positions: 64}
  tokenizer: {kind: bpe, vocab_size: 400}
  train:
    batch: {examples: 16}
    stopping: {max_steps: 2}
    validation: {every: {steps: 2}, limit: 4, metrics: [loss]}
student: {encoder_layers: 1, decoder_layers: 1}
data:
  train: {builtin: bulletins, split: train, limit: 48}
  validation: {builtin: bulletins, split: validation, limit: 4}
  test: {builtin: bulletins, split: test, limit: 4}
  max_source_tokens: 48
  max_target_tokens: 24
batch: {examples: 16}
validation: {every: {steps: 2}, limit: 4, metrics: [loss]}
evaluation: {metrics: [rouge2], speed: null}
"""
FIRST = "loss: {hidden: {encoder: 1.0, decoder: 1.0}, attention: {decoder_self: 1.0}}"
PHASES = f"""\
training:
- {{learning_rate: 1.0e-2, {FIRST}, stopping: {{max_steps: 4}}}}
- {{learning_rate: 5.0e-3}}
loss: {{labels: 1.0, logits: 1.0}}
stopping: {{max_steps: 3}}
"""
ONE = f"extends: base.yaml\nname: one\ntraining: {{learning_rate: 1.0e-2}}\n{FIRST}\nstopping: {{max_steps: 4}}\n"
TWO = """\
extends: base.yaml
name: two
student:
  init: {encoder: {from: {spec: one.yaml}, layers: all}, decoder: {from: {spec: one.yaml}, layers: all}}
  freeze: [embeddings, positions]
training: {learning_rate: 5.0e-3}
loss: {labels: 1.0, logits: 1.0}
stopping: {max_steps: 3}
"""


def trainings(workspace: Path, run: str) -> dict[str, Any]:
    """Training -> its folder."""
    (plan,) = workspace.glob(f"runs/{run}-*/plan.json")
    stages = json.loads(plan.read_text("utf-8"))["stages"]
    return {stage["id"]: workspace / "store" / stage["key"] for stage in stages if stage["kind"] == "train"}


def test_phases_are_the_trainings_that_they_say_one_after_the_other(
    distilc: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE, "utf-8")
    (tmp_path / "phased.yaml").write_text(f"extends: base.yaml\n{PHASES}", "utf-8")
    (tmp_path / "one.yaml").write_text(ONE, "utf-8")
    (tmp_path / "two.yaml").write_text(TWO, "utf-8")
    workspace = tmp_path / "workspace"
    for spec in ("phased.yaml", "two.yaml"):
        distilc("run", spec, "--until", "train", "--in-process", "--offline", "--workspace", str(workspace))
    phased, by_hand = trainings(workspace, "phased"), trainings(workspace, "two")
    assert phased["train-1"] == by_hand["one/train"]  # not a second one: it was in the store
    assert phased["train"] != by_hand["train"]
    one, other = ((folder / "model.safetensors").read_bytes() for folder in (phased["train"], by_hand["train"]))
    assert one == other != (phased["train-1"] / "model.safetensors").read_bytes()
    assert all((folder / "metrics.jsonl").is_file() for folder in phased.values())  # each has its curve
