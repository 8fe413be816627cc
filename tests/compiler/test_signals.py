"""Which states of a teacher are kept, how many bytes they take, and who shares them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distilc.compiler.explain.signals import candidates_of_run
from distilc.compiler.pipeline import compile_spec, lower_runs
from distilc.compiler.plan.signals import Signals, choose_signals, signal_bytes, why_not_kept
from distilc.compiler.resolve.data_sizes import PUBLISHED, TOKENS_PER_WORD, DataSize
from distilc.compiler.resolve.model_config import architecture_of

from .conftest import SPEC, make_site

BART, PEGASUS = (architecture_of({"model_type": family}) for family in ("bart", "pegasus"))
KD = "loss={labels: 1, logits: {weight: 0.8, temperature: 2.0}, hidden: {decoder: 3.0}}"
ROOM: dict[str, Any] = {"scratch_limit_gb": 50.0}

Compile = Callable[..., Any]


def signals_of(teacher: Any, side: Any, layers: list[int], last: bool = True, precision: str = "bf16") -> Signals:
    settings = {"side": side, "last": last, "layers": layers, "precision": precision}
    return Signals(side=side, settings=settings, needs={}, teacher=teacher)


def ids(plan: Any) -> list[str]:
    return [stage["id"] for stage in plan["stages"]]


# --- bytes -----------------------------------------------------------------------------------------


def test_the_states_of_bart_on_xsum() -> None:
    """The published order: about 194 GB for the encoder, 34 GB for the decoder side."""
    rows, source, target = PUBLISHED["EdinburghNLP/xsum", None]
    size = DataSize(rows, source * TOKENS_PER_WORD, target * TOKENS_PER_WORD, "published")
    assert signal_bytes(signals_of(BART, "encoder", []), size) / 1e9 == pytest.approx(194, abs=1)
    assert signal_bytes(signals_of(BART, "decoder", [3, 7, 11]), size) / 1e9 == pytest.approx(34, abs=0.5)


@pytest.mark.parametrize(
    ("teacher", "layers", "last", "states"),
    [
        (BART, [], True, 1),
        (BART, [11], True, 1),  # the output of the last layer is the last state
        (BART, [3, 7, 11], True, 3),
        (BART, [3, 7, 10], True, 4),
        (BART, [3, 7, 11], False, 3),
        (PEGASUS, [3, 7, PEGASUS.decoder_layers - 1], True, 4),  # a norm lies between the two
    ],
)
def test_what_is_kept_once(teacher: Any, layers: list[int], last: bool, states: int) -> None:
    found = signal_bytes(signals_of(teacher, "decoder", layers, last), DataSize(10, 100, 20, "store"))
    assert found == states * (128 + 10 * 20 * 1024 * 2) + 128 + 8 * 11


# --- the choice --------------------------------------------------------------------------------------


def test_both_sides_of_a_distillation_are_kept_and_its_key_does_not_know(compile_text: Compile) -> None:
    kept, computed = compile_text(KD, **ROOM), compile_text(KD)
    assert [id for id in ids(kept.plan) if id.startswith("signals")] == ["signals-encoder", "signals-decoder"]
    train = kept.stage("train")
    assert train["execution"]["signals"] == {"encoder": "signals-encoder", "decoder": "signals-decoder"}
    assert kept.stage("signals-encoder")["settings"]["layers"] == []
    assert kept.stage("signals-decoder")["settings"]["layers"] == kept.plan["phi"]["decoder"] == [3, 5]
    assert kept.stage("signals-decoder")["execution"]["signals"] == {"encoder": "signals-encoder"}
    assert train["key"] == computed.stage("train")["key"]
    assert kept.plan["key"] == computed.plan["key"]
    assert "signals" not in computed.stage("train")["execution"]


def test_fine_tuning_reads_its_frozen_encoder(compile_text: Compile) -> None:
    found = compile_text(**ROOM)
    assert found.stage("train")["execution"]["signals"] == {"encoder": "signals-encoder"}
    assert found.stage("signals-encoder")["needs"] == {"model": "teacher-train", "data": "data"}


def test_the_decoders_side_gets_the_room_first(compile_text: Compile) -> None:
    sizes = {signals.side: signals.num_bytes for signals in choose_signals([compile_text(KD, **ROOM).typed])}
    assert sizes["decoder"] is not None and sizes["encoder"] is not None
    for room, expected in (
        (sizes["decoder"] + sizes["encoder"], ["signals-encoder", "signals-decoder"]),
        (sizes["decoder"] + sizes["encoder"] - 1, ["signals-decoder"]),
        (sizes["encoder"], ["signals-encoder"] if sizes["encoder"] < sizes["decoder"] else ["signals-decoder"]),
    ):
        found = compile_text(KD, scratch_limit_gb=room / 1e9)
        assert [id for id in ids(found.plan) if id.startswith("signals")] == expected


def test_a_disk_that_is_slower_than_the_arithmetic_is_not_read(compile_text: Compile) -> None:
    found = compile_text(KD, scratch_read_gb_per_second=1e-6, **ROOM)
    assert not [id for id in ids(found.plan) if id.startswith("signals")]


def test_what_is_seen_once_is_not_kept(compile_text: Compile) -> None:
    assert "signals" not in compile_text(KD, "stopping={max_epochs: 1}", **ROOM).stage("train")["execution"]


@pytest.mark.parametrize(
    ("overrides", "side", "why"),
    [
        ((KD, "student.freeze=none"), "encoder", "no term looks at the encoder's states"),
        (("student.freeze=none",), "encoder", "the student's encoder is not the teacher's"),
        ((), "decoder", "no term looks at the teacher"),
        (("loss={labels: 1, attention: {decoder_self: 1.0}}",), "decoder", "the term attention looks at more than states"),
        (("loss={labels: 1, embedding: 1.0}",), "decoder", "the term embedding looks at more than states"),
        (("loss={hidden: {decoder: 1.0, layer_norm: per-batch}}",), "decoder", "layer_norm: per-batch looks at padding"),
        (("loss={hidden: {decoder: 1.0, align: inputs}}",), "decoder", "align: inputs looks at inputs of layers"),
    ],
)
def test_what_cannot_be_kept(compile_text: Compile, overrides: tuple[str, ...], side: Any, why: str) -> None:
    found = compile_text(*overrides, **ROOM)
    assert why_not_kept(found.typed, side) == why
    assert f"signals-{side}" not in ids(found.plan)


def test_a_trained_encoder_keeps_what_phi_names_of_the_teachers(compile_text: Compile) -> None:
    found = compile_text("loss={hidden: {encoder: 1.0, decoder: 1.0}}", "student.freeze=none", **ROOM)
    settings = found.stage("signals-encoder")["settings"]
    assert (settings["last"], settings["layers"]) == (False, [0, 1, 2])
    assert "signals" not in found.stage("signals-decoder")["execution"]


def test_random_embeddings_make_another_encoder(compile_text: Compile) -> None:
    found = compile_text("student.init.embeddings=random", "student.freeze=[encoder]", **ROOM)
    assert "signals-encoder" not in ids(found.plan)


# --- several runs --------------------------------------------------------------------------------------


def test_the_runs_of_a_sweep_share_what_they_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    spec = tmp_path / "spec.yaml"
    students = "student: {decoder_layers: 2}"
    spec.write_text(SPEC.replace(students, f"{students}\nmatrix: {{student.decoder_layers: [1, 2, 3]}}"))
    site = make_site(tmp_path / "workspace", **ROOM)
    plans, _ = lower_runs(compile_spec(spec, (KD,), site), site, fingerprints=True)
    assert len(plans) == 3
    for side in ("encoder", "decoder"):
        assert len({plan.stages[f"signals-{side}"].key for plan in plans}) == 1
    layers = plans[0].stages["signals-decoder"].settings["layers"]
    phi = {layer for plan in plans for layer in plan.found.student.phi["decoder"].layers}
    assert layers == sorted(phi) == [1, 3, 4, 5]


def test_a_mix_of_targets_reads_the_sources_of_the_data(compile_text: Compile) -> None:
    found = compile_text(KD, "pseudo_labels={own: {by: teacher}}", "targets=[original, own]", **ROOM)
    assert found.stage("signals-encoder")["needs"]["data"] == "data"
    assert found.stage("signals-decoder")["needs"]["data"] == "targets"


def test_stacks_that_are_not_run_need_no_memory(compile_text: Compile) -> None:
    teaching = compile_text(KD, **ROOM).typed.train.teaching
    assert teaching is not None and teaching.resting == {"encoder", "decoder"}


def test_bytes_are_exact_when_the_data_are_there(compile_text: Compile, tmp_path: Path) -> None:
    found = compile_text(KD, **ROOM)
    artifact = tmp_path / "workspace" / "store" / found.stage("data")["key"]
    artifact.mkdir(parents=True)
    counted = {"examples": 97, "source_tokens": 4001, "target_tokens": 1203}
    (artifact / "manifest.json").write_text(json.dumps({"summary": {"train": counted}}))
    sides = {s.side: s for s in choose_signals([found.typed])}
    assert sides["encoder"].num_bytes == 128 + 4001 * 64 * 4 + 128 + 8 * 98
    assert sides["decoder"].num_bytes == 2 * (128 + 1203 * 64 * 4) + 128 + 8 * 98


# --- candidates --------------------------------------------------------------------------------------

TOP = "loss={labels: 1, logits: {weight: 0.8, temperature: 3.0, candidates: {top_k: 16}}}"
DRAWN = "loss={labels: 1, logits: {weight: 0.8, candidates: {sampled: 16}}}"


def test_candidates_are_a_need_of_the_training_in_the_place_of_the_teacher(compile_text: Compile) -> None:
    found = compile_text(TOP)
    train, stage = found.stage("train"), found.stage("candidates")
    assert train["needs"] == {"data": "data", "model": "student", "candidates": "candidates"}
    assert train["settings"]["objective"]["logits"]["candidates"] == {"kind": "top-k", "number": 16, "vocabulary": 500}
    assert stage["needs"] == {"model": "teacher-train", "data": "data"}
    assert stage["settings"] == {
        "side": "decoder", "last": False, "layers": [], "precision": "fp32", "extensions": {},
        "candidates": {"kind": "top-k", "number": 16, "vocabulary": 500, "temperature": 3.0, "seed": None},
    }  # fmt: skip
    assert why_not_kept(found.typed, "decoder") == "no term looks at the teacher"
    drawn = compile_text(DRAWN).stage("candidates")["settings"]["candidates"]
    assert drawn["seed"] == found.plan["seed"] and drawn["kind"] == "sampled"


def test_all_candidates_are_no_candidates(compile_text: Compile) -> None:
    plain, spelled = (
        compile_text(f"loss={{labels: 1, logits: {{weight: 0.8{more}}}}}") for more in ("", ", candidates: all")
    )
    assert plain.stage("train")["key"] == spelled.stage("train")["key"]
    assert "candidates" not in plain.stage("train")["settings"]["objective"]["logits"]
    assert "candidates" not in ids(spelled.plan)


def test_other_terms_still_have_their_teacher(compile_text: Compile) -> None:
    found = compile_text(TOP.replace("}}}", "}}, cosine: 1.0}"), **ROOM)
    assert set(found.stage("train")["needs"]) == {"data", "model", "candidates", "teacher"}
    assert found.stage("train")["execution"]["signals"] == {"encoder": "signals-encoder", "decoder": "signals-decoder"}
    assert candidates_of_run(found.typed) == {
        "kind": "top-k", "number": 16, "vocabulary": 500, "temperature": 3.0, "seed": None,
        "bytes": candidates_of_run(found.typed)["bytes"], "token_bytes": 16 * 8 + 4, "exact_token_bytes": 64 * 4,
    }  # fmt: skip
