"""Every mix of Table 10 (arXiv 2010.13002) through the command line, tiny: what is shared is computed once, and each
student is trained on the rows that its targets say, with and without a teacher beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

SPEC = """\
version: 1
name: mix
task: summarization
teacher:
  architecture: {family: marian, encoder_layers: 1, decoder_layers: 2, d_model: 32, heads: 2, ffn_dim: 64, max_positions: 64}
  tokenizer: {kind: bpe, vocab_size: 400}
  train:
    batch: {examples: 16}
    training: {warmup: {steps: 0}}
    stopping: {max_steps: 2}
    validation: {every: {steps: 2}, limit: 4, metrics: [loss]}
student: {decoder_layers: 1}
pseudo_labels:
  own: {by: teacher, generation: {beams: 2, max_length: 8}, best_of: 2, keep: {max_repetition: 100, length_ratio: {max: 50}}}
  dump: {file: dump.jsonl}
data:
  train: {builtin: bulletins, split: train, limit: 48}
  validation: {builtin: bulletins, split: validation, limit: 4}
  test: {builtin: bulletins, split: test, limit: 4}
  max_source_tokens: 48
  max_target_tokens: 24
batch: {examples: 16}
stopping: {max_steps: 2}
validation: {every: {steps: 2}, limit: 4, metrics: [loss]}
training: {warmup: {steps: 0}}
evaluation:
  {metrics: [rouge1], generation: {beams: 1, max_length: 6}, teacher_generation: {beams: 1, max_length: 6}, speed: null}
variants:
  orig: {targets: [original]}
  pl: {targets: [own]}
  orig-pl: {targets: [original, own], loss: {labels: 1.0, logits: 0.8, hidden: {decoder: 3.0}}}
  orig-pl-pl: {targets: [original, own, {dump: 0.5}]}
  self: {targets: [own], student: {decoder_layers: 2}, training: {dropout: 0.2}}
"""
ROWS = {"orig": 48, "pl": 48, "orig-pl": 96, "orig-pl-pl": 96 + 20, "self": 48}


def manifests(workspace: Path) -> dict[str, Any]:
    found = [json.loads(file.read_text("utf-8")) for file in workspace.glob("store/*/manifest.json")]
    return {record["key"]: record for record in found}


def test_every_mix_is_trained(
    distilc: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mix.yaml").write_text(SPEC, "utf-8")
    rows = [{"id": f"bulletins-train-{i}", "text": f"Bulletin {i}."} for i in range(48) if i % 6]  # 40 of them have a label
    (tmp_path / "dump.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    distilc("run", "mix.yaml", "--in-process", "--workspace", "ws", "--offline")
    workspace = tmp_path / "ws"
    found = manifests(workspace)
    kinds = [record["stage"] for record in found.values()]
    assert {stage: kinds.count(stage) for stage in ("written-own", "labels-own", "labels-dump", "teacher-train")} == {
        "written-own": 1, "labels-own": 1, "labels-dump": 1, "teacher-train": 1
    }  # fmt: skip
    assert kinds.count("targets") == 3  # pl and self share theirs
    for variant, number in ROWS.items():
        (run,) = workspace.glob(f"runs/mix-{variant}-????????/summary.json")  # the end of its key
        summary = json.loads(run.read_text("utf-8"))
        assert summary["stopped_by"] == "max_steps 2" and "rouge1" in summary["student"]
        train = found[summary["stages"]["train"]["key"]]
        data = found[train["needs"]["data"]]
        assert data["summary"]["train"]["examples"] == number, variant
        assert set(summary["labels"]) == {name for name in ("own", "dump") if f"labels-{name}" in summary["stages"]}
        if "dump" in summary["labels"]:
            assert summary["labels"]["dump"]["kept"] == 40
            (warning,) = [warning for warning in summary["warnings"] if warning["code"] == "R348"]
            assert warning["stage"] == "labels-dump" and "8 of 48 training rows" in warning["message"]
            source_rows = np.load(workspace / "store" / data["key"] / "train.source_row.npy")
            assert source_rows[:96].tolist() == [*range(48), *range(48)]
            assert len(set(source_rows[96:].tolist())) == 20 and all(i % 6 for i in source_rows[96:])
    assert "labels/dropped/missing" in (next(workspace.glob("runs/mix-orig-pl-pl-*")) / "metrics.jsonl").read_text("utf-8")
