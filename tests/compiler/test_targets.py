"""Labellers and mixes of targets -> stages: what they are held to, what is in their keys, what is computed once."""

from __future__ import annotations

import json

import pytest

from distilc.compiler.plan.plan_sizes import trained_size
from distilc.compiler.resolve.data_sizes import share_rows

RULES = "keep: {min_rouge2: 10, min_bleu: 1, length_ratio: {min: 0.5, max: 2}, max_repetition: 20}"


def labels_of(lowered):
    return {stage["id"]: stage for stage in lowered.plan["stages"] if stage["kind"] == "pseudo-labels"}


def test_a_labeller_without_rules_is_one_stage_and_names_no_rule(compile_text):
    found = labels_of(compile_text("pseudo_labels={own: {by: teacher}}", "targets=[own]"))
    assert list(found) == ["labels-own"]
    settings = found["labels-own"]["settings"]
    later = {"min_bleu", "min_length_ratio", "max_length_ratio", "max_repetition"}
    assert not later & set(settings) and settings["min_rouge2"] is None
    assert "n_best" not in settings["generation"]


def test_another_rule_does_not_write_the_labels_anew(compile_text):
    plain = labels_of(compile_text("pseudo_labels={own: {by: teacher}}", "targets=[own]"))["labels-own"]
    held = labels_of(compile_text(f"pseudo_labels={{own: {{by: teacher, {RULES}}}}}", "targets=[own]"))
    assert list(held) == ["written-own", "labels-own"]
    assert held["written-own"]["key"] == plain["key"]
    rules = held["labels-own"]["settings"]
    assert held["labels-own"]["needs"] == {"labels": "written-own"}
    assert (rules["source"], rules["generation"], rules["precision"], rules["max_source_tokens"]) == ("labels", None, None, None)
    named = ("min_rouge2", "min_bleu", "min_length_ratio", "max_length_ratio", "max_repetition")
    assert [rules[name] for name in named] == [10, 1, 0.5, 2, 20]
    other = labels_of(compile_text("pseudo_labels={own: {by: teacher, keep: {min_rouge2: 11}}}", "targets=[own]"))
    assert other["written-own"]["key"] == plain["key"] and other["labels-own"]["key"] != held["labels-own"]["key"]


def test_rules_of_a_file_are_in_its_stage(compile_text, tmp_path):
    (tmp_path / "l.jsonl").write_text('{"id": "0", "text": "a"}\n', "utf-8")
    found = labels_of(compile_text(f"pseudo_labels={{dump: {{file: l.jsonl, {RULES}}}}}", "targets=[dump]"))
    assert list(found) == ["labels-dump"]
    assert (found["labels-dump"]["settings"]["source"], found["labels-dump"]["settings"]["max_repetition"]) == ("file", 20)


def test_the_best_of_several_texts_is_a_setting_of_the_search(compile_text):
    found = labels_of(compile_text("pseudo_labels={own: {by: teacher, best_of: 3, generation: {beams: 4}}}", "targets=[own]"))
    assert found["labels-own"]["settings"]["generation"]["n_best"] == 3


def test_targets_need_the_tokenizer_of_the_data_and_each_labeller(compile_text):
    lowered = compile_text("pseudo_labels={a: {by: teacher}, b: {by: teacher, generation: {beams: 2}}}", "targets=[a, original, b]")
    stage = lowered.stage("targets")
    assert stage["needs"] == {"data": "data", "tokenizer": "tokenizer", "labels.a": "labels-a", "labels.b": "labels-b"}
    assert stage["settings"] == {"targets": ["a", "original", "b"], "max_target_tokens": stage["settings"]["max_target_tokens"]}
    assert lowered.stage("train")["needs"]["data"] == "targets"
    assert lowered.stage("evaluate-student")["needs"]["data"] == "data"


@pytest.mark.parametrize(
    ("targets", "shares", "rows"),
    [
        ("[original, {own: 0.5}]", {"own": 0.5}, 150),
        ("[{own: 2.25}]", {"own": 2.25}, 225),
        ("[{original: 0.25}, {own: 1}]", {"original": 0.25}, 125),
    ],
)
def test_shares_are_in_the_plan_where_they_are_not_one(compile_text, targets, shares, rows):
    lowered = compile_text("pseudo_labels={own: {by: teacher}}", f"targets={targets}")
    assert lowered.codes == []
    assert lowered.stage("targets")["settings"]["shares"] == shares
    assert trained_size(lowered.typed, lowered.typed.stages["train"]).rows == rows


def test_a_share_of_one_is_none(compile_text):
    labels = "pseudo_labels={own: {by: teacher}}"
    one, plain = (compile_text(labels, f"targets={targets}") for targets in ("[{original: 1}, {own: 1.0}]", "[original, own]"))
    assert one.stage("targets")["key"] == plain.stage("targets")["key"]
    assert "targets" not in {stage["id"] for stage in compile_text("targets=[{original: 1}]").plan["stages"]}
    assert compile_text("targets=[{original: 0.5}]").stage("targets")["needs"] == {"data": "data", "tokenizer": "tokenizer"}


def test_the_number_of_rows_is_the_runtimes():
    from distilc.runtime.labels.draw import draw

    for rows in (0, 1, 7, 400):
        for share in (0.001, 0.5, 0.999, 1.0, 1.5, 3.0):
            assert len(draw("own", [str(i) for i in range(rows)], share)) == share_rows(rows, share)


def model(folder, model_type, ffn_dim=9):
    """The config of a small model in a new folder."""
    folder.mkdir()
    config = {
        "model_type": model_type, "vocab_size": 500, "d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": ffn_dim,
        "decoder_ffn_dim": 9, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 32,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), "utf-8")


def test_a_labeller_reads_no_more_than_it_has_positions_for(compile_text, tmp_path):
    model(tmp_path / "m", "pegasus")
    settings = labels_of(compile_text("pseudo_labels={peg: {by: ./m}}", "targets=[peg]"))["labels-peg"]["settings"]
    assert settings["max_source_tokens"] == 32
    own = labels_of(compile_text("pseudo_labels={own: {by: teacher}}", "targets=[own]"))["labels-own"]["settings"]
    assert own["max_source_tokens"] > 32


def test_a_student_as_deep_as_its_teacher_may_learn_from_its_labels(compile_text):
    lowered = compile_text("student={decoder_layers: 6}", "pseudo_labels={own: {by: teacher}}", "targets=[own]", "training.dropout=0.2")
    assert lowered.codes == []
    assert lowered.plan["student"]["parameters"] == lowered.plan["teacher"]["parameters"]
    assert lowered.stage("train")["settings"]["dropout"] == {"hidden": 0.2}


def test_a_prefix_is_for_models_of_the_teachers_family(compile_text, tmp_path):
    model(tmp_path / "same", "marian")
    model(tmp_path / "other", "pegasus")
    asked = "pseudo_labels={own: {by: teacher}, same: {by: ./same}, other: {by: ./other}, told: {by: ./other, prefix: 'tldr '}}"
    found = labels_of(compile_text(asked, "targets=[own, same, other, told]", "data.prefix='sum: '"))
    prefixes = {name.removeprefix("labels-"): stage["settings"]["prefix"] for name, stage in found.items()}
    assert prefixes == {"own": "sum: ", "same": "sum: ", "other": "", "told": "tldr "}


def test_each_labeller_is_converted_for_itself(compile_text, tmp_path):
    model(tmp_path / "one", "marian")
    model(tmp_path / "two", "marian", ffn_dim=10)
    asked = "pseudo_labels={x: {by: ./one, generation: {compute_type: int8}}, x-int8: {by: ./two}}"
    plan = compile_text(asked, "targets=[x, x-int8]").plan
    stages = {stage["id"]: stage for stage in plan["stages"]}
    converted = {name: stages[stages[f"labels-{name}"]["needs"]["converted"]] for name in ("x", "x-int8")}
    assert {name: stage["needs"] for name, stage in converted.items()} == {
        "x": {"model": "labeller-x"}, "x-int8": {"model": "labeller-x-int8"}
    }  # fmt: skip
    assert [stage["settings"]["compute_type"] for stage in converted.values()] == ["int8", "fp32"]
    assert len(stages) == len(plan["stages"])


def test_a_labeller_is_held_to_the_positions_of_its_own_model(compile_text, tmp_path):
    model(tmp_path / "m", "pegasus")

    def found(by, length):
        label = f"pseudo_labels={{x: {{by: {by}, max_source_tokens: {length}, generation: {{max_length: {length}}}}}}}"
        return [(d.code, d.path, d.message) for d in compile_text(label, "targets=[x]").diagnostics if d.code == "E513"]

    assert found("./m", 32) == found("teacher", 512) == []
    words = "the pegasus labeller has positions for 32 tokens"
    assert found("./m", 33) == [
        ("E513", "pseudo_labels.x.max_source_tokens", f"max_source_tokens is 33; {words}"),
        ("E513", "pseudo_labels.x.generation.max_length", f"max_length is 33; {words}"),
    ]
    assert [message for *_, message in found("teacher", 513)] == [
        f"{name} is 513; the marian labeller has positions for 512 tokens" for name in ("max_source_tokens", "max_length")
    ]


def test_a_share_of_no_row_is_told_where_rows_are_counted(compile_text, tmp_path):
    labels = "pseudo_labels={own: {by: teacher}}"

    def found(*overrides):
        return [d.message for d in compile_text(labels, *overrides).diagnostics if d.code == "W583"]

    assert found("targets=[original, {own: 0.004}]") == ["a share of 0.004 selects no row of `own`: there are 100"]
    assert found("targets=[original, {own: 0.006}]") == []
    (tmp_path / "rows.jsonl").write_text('{"source": "a", "target": "b"}\n' * 3, "utf-8")
    assert found("targets=[own, {original: 0.1}]", "data.train={files: rows.jsonl}") == [
        "a share of 0.1 selects no row of `original`: there are 3"
    ]
    assert found("targets=[own, {original: 0.1}]", "data.train={hub: org/rows}") == []
