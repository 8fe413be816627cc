"""A run from its spec to its table with a classifier in the forms in which it is served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SPEC = """\
version: 1
name: served
task: classification
teacher:
  architecture: {family: bert, encoder_layers: 2, d_model: 32, heads: 2, ffn_dim: 64, max_positions: 64}
  tokenizer: {kind: wordpiece, vocab_size: 300}
  train:
    training: {learning_rate: 1.0e-2}
    batch: {examples: 8}
    stopping: {max_steps: 4}
    validation: {every: {steps: 4}, limit: 4, metrics: [loss]}
student: {encoder_layers: 1}
data:
  train: {files: train.jsonl}
  validation: {files: validation.jsonl}
  test: {files: test.jsonl}
  columns: {text: text, label: label}
  labels: [weather, trade]
  max_source_tokens: 64
training: {learning_rate: 1.0e-2}
batch: {examples: 8}
stopping: {max_steps: 4}
validation: {every: {steps: 4}, limit: 4, metrics: [loss]}
evaluation: {exports: [{compute_type: fp32}, {compute_type: int8}], speed: null}
"""
TEXTS = [("rain fell on the {} all night", "weather"), ("prices of {} rose", "trade"), ("a storm over the {}, and snow", "weather"), ("{} sold for less than bread", "trade")]
THINGS = ("hills", "boats", "old houses near the harbour", "coal")


def test_what_is_served_is_what_is_scored(tmp_path: Path) -> None:
    for number, name in enumerate(("train", "validation", "test")):
        rows = [{"text": text.format(thing) + " again" * number, "label": label} for text, label in TEXTS for thing in THINGS]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (tmp_path / "spec.yaml").write_text(SPEC, "utf-8")
    workspace = tmp_path / "workspace"
    command = [sys.executable, "-m", "distilc.compiler", "run", "spec.yaml", "--in-process", "--offline", "--workspace", str(workspace)]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    (run,) = workspace.glob("runs/served-*")
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    assert [*summary["exports"]] == ["onnx fp32", "onnx int8"]
    fp32, int8 = (found["test_sets"]["test"] for found in summary["exports"].values())
    assert fp32["accuracy"] == summary["test_sets"]["test"]["student"]["accuracy"] and int8.keys() == fp32.keys()
    folders = {id: workspace / "store" / stage["key"] for id, stage in summary["stages"].items()}
    classes = {
        id: [json.loads(line)["prediction"] for line in (folders[id] / "predictions.test.jsonl").read_text("utf-8").splitlines()]
        for id in ("evaluate-student", "evaluate-student-fp32")
    }
    assert classes["evaluate-student-fp32"] == classes["evaluate-student"] and len(classes["evaluate-student"]) == 16
    table = (run / "table.md").read_text("utf-8")
    assert "| student, onnx fp32 |" in table and "| student, onnx int8 |" in table
