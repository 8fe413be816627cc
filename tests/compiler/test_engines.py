"""Which engine a plan has, and the conversion that it needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

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
