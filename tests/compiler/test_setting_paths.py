"""Every setting of every stage is named as the spec names it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from distilc.compiler.diagnostics.diagnostic import Trail
from distilc.compiler.plan.keys import STAGE_FORMATS
from distilc.compiler.spec.setting_paths import DERIVED, IN_NO_SPEC, changed_settings, spec_key
from distilc.compiler.spec.structure import Fragment, Schema, load_schema

MARIAN = {
    "model_type": "marian", "vocab_size": 500, "d_model": 64, "encoder_layers": 3, "decoder_layers": 12,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128,
}  # fmt: skip
OF_THE_STAGE = {"evaluate": {"split"}}  # follows from which stage it is
FULL = (
    "pseudo_labels={own: {by: teacher, best_of: 2, generation: {beams: 2}, keep: {min_rouge2: 10, min_bleu: 1,"
    " length_ratio: {min: 0.5, max: 2}, max_repetition: 20}}, other: {by: {path: ./model}}, dump: {file: l.jsonl}}",
    "targets=[original, own, {other: 0.5}, dump]",
    "loss={labels: 1.0, logits: {weight: 0.8, temperature: 2.0}, hidden: {decoder: 3.0}, cosine: 1.0, embedding: 1.0}",
    "student={decoder_layers: 2, init: {decoder: {from: {path: ./model}}, encoder: random}}",
    "validation.metrics=[loss, rouge2]",
    "stopping.retention={rouge2: 99}",
    "phi={decoder: [1, 5]}",
)


@pytest.fixture
def plan(compile_text: Any, tmp_path: Any) -> Any:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(MARIAN), "utf-8")
    (tmp_path / "l.jsonl").write_text('{"id": "0", "text": "a"}\n', "utf-8")
    lowered = compile_text(*FULL)
    assert lowered.plan is not None, lowered.diagnostics
    return lowered.plan


def leaves(value: Any, path: Trail = ()) -> Iterator[Trail]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, below in inside:
        yield from leaves(below, (*path, step))
    if not inside:
        yield path


def is_key(schema: Schema, fragment: Fragment, steps: list[str]) -> bool:
    """Does the schema have the key, in any of the alternatives?"""
    fragment = schema.resolve(fragment)
    if not steps or any(is_key(schema, branch, steps) for branch in fragment.get("anyOf", ())):
        return True
    below = schema.child(fragment, int(steps[0]) if steps[0].isdigit() else steps[0])
    return below is not None and is_key(schema, below, steps[1:])


def test_every_setting_is_a_key_of_the_spec(plan: Any) -> None:
    schema = load_schema("experiment")
    kinds = {stage["kind"] for stage in plan["stages"]}
    # Signals are chosen, not set; systems of others have their own test (test_baselines).
    assert kinds == set(STAGE_FORMATS) - {"signals", "baseline"}
    for stage in plan["stages"]:
        for path in leaves(stage["settings"]):
            head = str(path[0])
            if head in (*DERIVED, "engine", *OF_THE_STAGE.get(stage["kind"], ())) or path[-1] == "engine":
                continue
            if stage["id"] == "teacher-train" and head == "objective" and path[1] != "labels":
                assert not stage["settings"]["objective"][path[1]]  # a teacher is trained on the labels alone
                continue
            key = spec_key(stage["id"], stage["kind"], path)
            if head in IN_NO_SPEC:
                assert key == f"{head} of {stage['id']}"
                continue
            steps = re.findall(r"[^.\[\]]+", key.partition(" (")[0])
            # What a plan adds to a source (its fingerprints) is below a key that is there.
            if steps[:2] in (["data", "train"], ["data", "validation"], ["data", "test"]):
                steps = steps[:2]
            if steps[:2] == ["data", "columns"] or steps[:2] == ["data", "labels"]:
                steps = steps[:2]
            assert is_key(schema, schema.root, steps), (stage["id"], path, key)


@pytest.mark.parametrize(
    ("stage", "kind", "setting", "key"),
    [
        ("train", "train", ("learning_rate",), "training.learning_rate"),
        ("teacher-train", "train", ("learning_rate",), "teacher.train.training.learning_rate"),
        ("train", "train", ("seed",), "seeds"),
        ("teacher-train", "train", ("seed",), "teacher.seed"),
        ("train", "train", ("objective", "logits", "temperature"), "loss.logits.temperature"),
        ("train", "train", ("objective", "phi", "decoder"), "phi.decoder"),
        ("train", "train", ("batch", "size"), "batch (size)"),
        ("train", "train", ("stopping", "retention", "rouge2"), "stopping.retention.rouge2"),
        ("train", "train", ("validation", "every_epochs"), "validation.every.epochs"),
        ("train", "train", ("validation", "generation", "beams"), "validation.generation.beams"),
        ("evaluate-student", "evaluate", ("generation", "beams"), "evaluation.generation.beams"),
        ("evaluate-teacher", "evaluate", ("generation", "beams"), "evaluation.teacher_generation.beams"),
        ("evaluate-teacher-validation", "evaluate", ("limit",), "validation.limit"),
        ("data", "data", ("train", 0, "fingerprints", 0), "data.train[0].fingerprints[0]"),
        ("teacher", "teacher", ("fingerprint",), "teacher (fingerprint)"),
        ("decoder-origin", "teacher", ("fingerprint",), "student.init.decoder.from (fingerprint)"),
        ("labeller-peg", "teacher", ("revision",), "pseudo_labels.peg.by (revision)"),
        ("labels-own", "pseudo-labels", ("generation", "beams"), "pseudo_labels.own.generation.beams"),
        ("teacher", "teacher", ("config", "d_model"), "teacher.architecture (d_model)"),
        ("student", "student", ("decoder", "layers"), "student.init.decoder.layers"),
        ("benchmark-student", "benchmark", ("device",), "device of benchmark-student"),
        ("later", "of-a-later-version", ("a", "b"), "a.b of later"),
    ],
)
def test_names(stage: str, kind: str, setting: Trail, key: str) -> None:
    assert spec_key(stage, kind, setting) == key


def test_what_follows_from_other_settings_is_no_change() -> None:
    a = {"seed": 1, "trainable_parameters": 10, "learning_rate": 0.1}
    b = {"seed": 1, "trainable_parameters": 20, "learning_rate": 0.2}
    assert changed_settings("train", "train", a, b) == [("training.learning_rate", 0.1, 0.2)]
