"""Which engine a plan has, and the conversion that it needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distilc.compiler.explain.engines import engine_lines
from distilc.compiler.resolve.engines import TRANSFORMERS, Engine, choose_engine
from distilc.compiler.spec.experiment import Generation, Sampling

from .conftest import make_site

OWN = Generation(
    beams=None, length_penalty=None, min_length=None, max_length=None, no_repeat_ngram=None, early_stopping=None,
    engine="auto", compute_type=None, sampling=None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "family", "precision", "expected"),
    [
        ({}, "marian", "fp32", Engine("ctranslate2", "fp32")),
        ({"beams": 4, "early_stopping": True}, "bart", "fp32", Engine("ctranslate2", "fp32")),
        ({"beams": 4, "early_stopping": False}, "bart", "fp32", TRANSFORMERS),
        ({"beams": 4, "early_stopping": False, "engine": "ctranslate2"}, "t5", "fp32", Engine("ctranslate2", "fp32", True)),
        ({"no_repeat_ngram": 3}, "t5", "fp32", TRANSFORMERS),
        ({"min_length": 1}, "t5", "fp32", Engine("ctranslate2", "fp32")),
        ({"sampling": Sampling(top_k=None, top_p=0.9, temperature=1.0, seed=0)}, "t5", "fp32", TRANSFORMERS),
        ({}, "t5", "bf16", TRANSFORMERS),
        ({"compute_type": "int8"}, "t5", "fp32", Engine("ctranslate2", "int8", True)),
        ({"engine": "transformers"}, "t5", "fp32", TRANSFORMERS),
        ({}, "shiny", "fp32", TRANSFORMERS),
    ],
)
def test_the_engine(tmp_path: Path, changes: dict[str, Any], family: str, precision: str, expected: Engine) -> None:
    assert choose_engine(replace(OWN, **changes), family, precision, make_site(tmp_path)) == expected


def test_a_site_decides_what_a_spec_leaves_open(tmp_path: Path) -> None:
    site = make_site(tmp_path, engine="transformers")
    assert choose_engine(OWN, "bart", "fp32", site) == TRANSFORMERS
    assert choose_engine(replace(OWN, engine="ctranslate2"), "bart", "fp32", site).name == "ctranslate2"
    gpu = make_site(tmp_path, device="cuda")
    assert choose_engine(OWN, "bart", "bf16", gpu) == Engine("ctranslate2", "bf16")


def test_what_overflows_in_fp16_is_refused(compile_text: Any) -> None:
    asked = ("teacher.architecture.family=pegasus", "evaluation.generation={compute_type: fp16}")
    found = compile_text(*asked, device="cuda").diagnostics
    assert [(one.code, one.message) for one in found] == [("E572", "ctranslate2 overflows in fp16 with pegasus models")]


CLASSIFIER = """\
version: 1
name: served
task: classification
teacher:
  architecture: {family: bert, encoder_layers: 2, d_model: 16, heads: 2, ffn_dim: 32, max_positions: 64}
  tokenizer: {kind: wordpiece, vocab_size: 300}
  train: {}
student: {encoder_layers: 1}
data:
  train: {files: train.jsonl}
  validation: {files: validation.jsonl}
  test: {files: test.jsonl}
  columns: {text: text, label: label}
  labels: [a, b]
  max_source_tokens: 64
evaluation: {speed: {}, exports: [{compute_type: fp32}, {engine: onnx, compute_type: int8}]}
"""


@pytest.fixture
def compile_classifier(compile_text: Any, tmp_path: Path) -> Any:
    for number, name in enumerate(("train", "validation", "test")):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"text": "row {number}", "label": "a"}}\n', "utf-8")
    return lambda *overrides, text=CLASSIFIER: compile_text(*overrides, text=text)


def test_a_classifier_is_served_by_onnx(compile_classifier: Any) -> None:
    """A form is made for a type, held to rows of the data, and evaluated and timed; of the model itself nothing changes."""
    lowered, plain = compile_classifier(), compile_classifier("evaluation.exports=[]")
    assert (lowered.codes, plain.codes) == ([], [])
    for suffix, compute_type in (("", "fp32"), ("-int8", "int8")):
        form = lowered.stage(f"convert-train{suffix}")
        assert form["needs"] == {"model": "train", "data": "data"}
        asked = {"format": "onnx", "compute_type": compute_type, "task": "classification"}
        assert {name: form["settings"][name] for name in asked} == asked
        for kind in ("evaluate", "benchmark"):
            stage = lowered.stage(f"{kind}-student-{compute_type}")
            assert stage["needs"] == {"model": "train", "data": "data", "converted": f"convert-train{suffix}"}
            assert stage["settings"]["served"] == {"engine": "onnx", "compute_type": compute_type}
    for id in ("train", "evaluate-teacher", "evaluate-student", "benchmark-student"):
        assert lowered.stage(id)["key"] == plain.stage(id)["key"]
        assert "served" not in lowered.stage(id)["settings"]
    assert engine_lines(lowered.typed) == [
        "the student is evaluated and timed as it is served, too:",
        "  student-fp32: onnx fp32",
        "  student-int8: onnx int8",
    ]


MASKED = CLASSIFIER.replace("classification", "masked-lm").replace("\n  labels: [a, b]", "").replace(", label: label", "")


@pytest.mark.parametrize(
    ("text", "export", "code", "message"),
    [
        (CLASSIFIER, "{engine: ctranslate2, compute_type: int8}", "E571", "ctranslate2 does not serve models of the task classification"),
        (CLASSIFIER, "{compute_type: bf16}", "E572", "onnx does not support bf16"),
        (MASKED, "{compute_type: int8}", "E571", "models of the task masked-lm have no other form in which they are served"),
    ],
)  # fmt: skip
def test_a_form_that_is_not_there(compile_classifier: Any, text: str, export: str, code: str, message: str) -> None:
    found = compile_classifier(f"evaluation.exports=[{export}]", text=text).diagnostics
    assert [(one.code, one.message) for one in found] == [(code, message)]


def test_what_writes_is_not_served_by_onnx(compile_text: Any) -> None:
    found = compile_text("evaluation.exports=[{engine: onnx, compute_type: int8}]").diagnostics
    assert [(one.code, one.hint) for one in found] == [("E571", "write `engine: ctranslate2`")]
    assert compile_text("evaluation.exports=[{compute_type: int8}]").stage("convert-train-int8")["settings"]["format"] == "ctranslate2"
