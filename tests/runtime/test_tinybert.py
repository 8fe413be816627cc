"""TinyBERT's two specs on small shapes, in one command: the general distillation of masked texts makes the student that
the task's phases begin with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "specs" / "tinybert"
WORDS = "a the man woman dog cat runs sleeps plays reads book ball park house red blue big small no one two".split()
SHAPE = {"encoder_layers": 2, "d_model": 8, "ffn_dim": 16}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a teacher of masked tokens, texts, and pairs in three classes."""
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=5 + len(WORDS), hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, initializer_range=0.2,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    BertTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path / "bert")
    texts = [" ".join(WORDS[(3 * i + 5 * j) % len(WORDS)] for j in range(14)) for i in range(48)]
    for name, some in (("train", texts[:32]), ("validation", texts[32:40]), ("test", texts[40:])):
        rows = [{"text": text} for text in some]
        pairs = [
            {"premise": text[:20], "hypothesis": text[20:], "label": ("entailment", "neutral", "contradiction")[i % 3]}
            for i, text in enumerate(some)
        ]
        for kind, found in (("texts", rows), ("pairs", pairs)):
            (tmp_path / f"{name}-{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return tmp_path


def data(folder: Path, kind: str) -> dict[str, object]:
    files = {split: {"files": str(folder / f"{split}-{kind}.jsonl")} for split in ("train", "validation", "test")}
    return {**files, "max_source_tokens": 24}


@pytest.mark.slow
def test_a_student_is_distilled_in_general_and_then_for_its_task(
    distilc: Callable[..., str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    general = {
        "extends": str(SPECS / "general-4.yaml"), "teacher": {"path": str(folder / "bert")}, "student": SHAPE,
        "data": {**data(folder, "texts"), "train": {"files": str(folder / "train-texts.jsonl"), "hub": None}},
        "batch": {"examples": 8}, "stopping": {"max_epochs": None, "max_steps": 3}, "validation": {"every": {"steps": 3}},
        "evaluation": {"speed": None},
    }  # fmt: skip
    (folder / "general.yaml").write_text(json.dumps(general))
    train = {"batch": {"examples": 8}, "stopping": {"max_steps": 2}}
    changes = {
        "teacher": {"path": str(folder / "bert"), "train": train},
        **{f"student.{name}": value for name, value in SHAPE.items()},
        **{f"student.init.{part}.from": {"spec": str(folder / "general.yaml")} for part in ("embeddings", "encoder")},
        **{f"data.{name}": value for name, value in data(folder, "pairs").items()},
        "batch": {"examples": 8},
        "training[0].stopping": {"max_steps": 3}, "training[1].stopping": {"max_steps": 2}, "evaluation.speed": None,
    }  # fmt: skip
    given = [part for path, value in changes.items() for part in ("--set", f"{path}={json.dumps(value)}")]
    distilc("run", str(SPECS / "tinybert-4.yaml"), *given, "--in-process")
    (run,) = (folder / ".distilc" / "runs").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert [phase["steps"] for phase in summary["phases"]] == [3, 2]
    store = folder / ".distilc" / "store"
    keys = {id: stage["key"] for id, stage in summary["stages"].items()}
    made, whole = (load_file(store / keys[id] / "model.safetensors") for id in ("student", "tinybert-general-4/train"))
    inside = [name for name in made if name.startswith(("bert.embeddings", "bert.encoder"))]
    assert all(torch.equal(made[name], whole[name]) for name in inside) and len(inside) == 5 + 2 * 16
