"""Trainings that do not fit: what is said, where, and that the remedies work."""

import re
from dataclasses import replace

import pytest

from distilc.compiler.checks import fit
from distilc.compiler.estimates.memory import place

BIG = """
version: 1
name: big
task: summarization
teacher: {path: ./model}
student: {decoder_layers: 3, freeze: none}
loss: {labels: 1, logits: 1}
precision: fp32
batch: {tokens: 65536}
data:
  train: {builtin: bulletins, limit: 100}
  validation: {builtin: bulletins, limit: 20}
  test: {builtin: bulletins, limit: 20}
  max_source_tokens: 400
  max_target_tokens: 100
"""


def found(lowered):
    return [d for d in lowered.diagnostics if d.code in ("E541", "W541")]


@pytest.fixture(autouse=True)
def model(tmp_path):
    """BART-large, by its defaults."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "bart"}', "utf-8")


def test_it_is_said_at_what_does_not_fit(compile_text):
    lowered = compile_text(text=BIG, device="cuda", memory_gb=4.0)
    (diagnostic,) = found(lowered)
    assert (diagnostic.code, diagnostic.severity, diagnostic.path) == ("E541", "error", "student")
    assert lowered.plan is None
    needed = float(re.search(r"needs ([\d.]+) GiB per device, which has 4\.0", diagnostic.message)[1])
    assert needed > 4
    # AdamW in fp32 with everything trained: 8 of 16 bytes are moments
    assert re.search(r" at ZeRO stage 0 and checkpointing with 512 tokens at a time: optimizer [\d.]+, ", diagnostic.message)


def test_a_teacher_of_its_own_is_judged_too(compile_text):
    lowered = compile_text("teacher.train={}", text=BIG, device="cuda", memory_gb=4.0)
    assert [d.path for d in found(lowered)] == ["teacher.train", "student"]


@pytest.mark.parametrize("memory_gb", [None, 80.0])
def test_nothing_is_said_where_it_fits_or_memory_is_not_known(compile_text, memory_gb):
    for device in ("cuda", "cpu"):
        lowered = compile_text(text=BIG, device=device, memory_gb=memory_gb)
        assert not found(lowered) and lowered.plan is not None


def test_a_cpu_is_warned_of(compile_text):
    lowered = compile_text(text=BIG, device="cpu", memory_gb=4.0)
    assert [(d.code, d.severity) for d in found(lowered)] == [("W541", "warning")]
    assert lowered.plan is not None


def test_it_is_said_without_hashing_anything(compile_text):
    assert found(compile_text(text=BIG, device="cuda", memory_gb=4.0, fingerprints=False))


def test_what_fits_is_found_soon_however_many_processes_there_are(compile_text, monkeypatch):
    tried = []
    monkeypatch.setattr(fit, "place", lambda *args: tried.append(args) or place(*args))
    (diagnostic,) = found(compile_text(text=BIG, device="cpu", memory_gb=64.0, per_node=65536, fingerprints=False))
    number = int(re.search(r"(\d+) process", diagnostic.hint)[1])
    assert number > 1 and len(tried) < 40
    fits = [place(replace(tried[0][0], world=n, per_node=n)).fits for n in range(1, 20)]
    assert fits == [True] * number + [False] * (19 - number)


SITES = [
    {"memory_gb": 6.0},
    {"memory_gb": 6.0, "per_node": 2},
    {"memory_gb": 5.0, "zero": 1, "per_node": 8},
    {"memory_gb": 12.0, "micro_batch_tokens": 65536},
    {"memory_gb": 9.0, "micro_batch_tokens": 65536, "zero": 1, "per_node": 4},
    {"memory_gb": 20.0, "micro_batch_tokens": 65536, "checkpointing": False},
    {"memory_gb": 9.0, "offload": "optimizer", "micro_batch_tokens": 65536},
    {"memory_gb": 8.0, "per_node": 4, "device": "cpu"},
]


@pytest.mark.parametrize("site", SITES, ids=str)
def test_what_is_said_to_fit_does(compile_text, site):
    site = {"device": "cuda", **site}
    deep = ("student.decoder_layers=12", "precision=bf16") if "zero" in site else ()
    (diagnostic,) = found(compile_text(*deep, text=BIG, **site))
    remedies = diagnostic.hint.removeprefix("what fits: ")
    named = 0
    for pattern, changes in (
        (r"`micro_batch_tokens: (\d+)`", lambda n: {"micro_batch_tokens": int(n)}),
        (r"`zero: (auto)`", lambda zero: {"zero": zero}),
        (r"`checkpointing: (auto)`", lambda auto: {"checkpointing": auto}),
        (r"`offload: (\w+)`", lambda offload: {"offload": offload, "micro_batch_tokens": None}),
        (r"(\d+) devices", lambda n: {"per_node": int(n), "zero": "auto", "micro_batch_tokens": None}),
        (r"(\d+) process", lambda n: {"per_node": int(n), "micro_batch_tokens": None}),
        (r"devices of (\d+) GiB", lambda n: {"memory_gb": float(n)}),
        (r"(\d+) GiB of memory", lambda n: {"memory_gb": float(n)}),
    ):
        if match := re.search(pattern, remedies):
            named += 1
            assert not found(compile_text(*deep, text=BIG, **{**site, **changes(match[1])})), match[0]
    assert named == len(re.split(r", | or ", remedies))
