"""What `explain` says, for people and for programs."""

import json

import pytest

from distilc.compiler.explain import explain_json, explain_text
from distilc.compiler.forecast import stage_architecture

BART = {
    "model_type": "bart", "vocab_size": 60, "d_model": 16, "encoder_layers": 4, "decoder_layers": 12,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
}  # fmt: skip


def explained(lowered) -> dict:
    (run,) = explain_json([lowered.plan])["runs"]
    return json.loads(json.dumps(run))


def stored(lowered, workspace, *ids) -> None:
    for id in ids:
        folder = workspace / "store" / lowered.stage(id)["key"]
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}", "utf-8")


def test_keys_of_the_json(compile_text):
    run = explained(compile_text())
    assert set(run) >= {
        "name", "variant", "task", "teacher", "student", "copy", "phi", "stages", "memory", "estimate",
    }  # fmt: skip
    assert set(run["teacher"]) == {"model", "family", "parameters", "encoder_layers", "decoder_layers"}
    assert set(run["student"]) == {
        "family", "parameters", "trainable_parameters", "encoder_layers", "decoder_layers",
    }  # fmt: skip
    assert run["copy"] == {"encoder": [0, 1, 2], "decoder": [0, 5]}
    assert run["phi"] == {"encoder": None, "decoder": [3, 5]}
    assert all(set(stage) == {"id", "kind", "key", "needs", "cached"} for stage in run["stages"])
    assert explain_json([])["version"] == 1


def test_what_is_in_the_store(compile_text, tmp_path):
    lowered = compile_text(shared_stores=(tmp_path / "shared",))
    stored(lowered, tmp_path / "workspace", "tokenizer", "data")
    key = lowered.stage("teacher")["key"]
    (tmp_path / "shared" / key).mkdir(parents=True)
    (tmp_path / "shared" / key / "manifest.json").write_text("{}", "utf-8")
    cached = [stage["id"] for stage in explained(lowered)["stages"] if stage["cached"]]
    assert cached == ["tokenizer", "teacher", "data"]
    text = explain_text(lowered.plan, lowered.experiment)
    assert text.count("in the store") == 3


def test_what_cannot_be_known_is_unresolved_and_so_is_what_needs_it(compile_text, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(BART), "utf-8")
    lowered = compile_text("data.test={hub: org/rows}", "teacher={path: ./model}", "data.max_source_tokens=64")
    keys = {stage["id"]: stage["key"] for stage in explained(lowered)["stages"]}
    known = {id for id, key in keys.items() if key != "unresolved"}
    assert known == {"teacher", "student"}


def test_memory_is_told_by_what_it_is_for(compile_text):
    memory = explained(compile_text(zero=2, per_node=2, micro_batch_tokens=512))["memory"]
    assert set(memory) == {"teacher-train", "train"}
    table = memory["train"]
    assert (table["zero"], table["micro_batch_tokens"]) == (2, 512)
    parts = ("weights", "gradients", "optimizer", "activations", "logits", "workspace")
    assert table["total_gb"] == pytest.approx(sum(table[f"{part}_gb"] for part in parts), abs=1e-3)


def test_the_estimate_counts_what_is_trained(compile_text):
    estimate = explained(compile_text())["estimate"]
    assert estimate["train"]["gigaflops_per_token"] < estimate["teacher-train"]["gigaflops_per_token"]
    assert estimate["train"]["disk_gb"] < estimate["teacher-train"]["disk_gb"]


def test_the_text_draws_both_maps(compile_text):
    lowered = compile_text()
    text = explain_text(lowered.plan, lowered.experiment)
    assert "encoder: all 3 layers of the teacher, in order" in text
    decoder = text[text.index("\ndecoder:") : text.index("\nfrozen:")]
    assert "spaced: by the published table for 6 -> 2" in decoder
    assert "block-ends: by the published table for 6 -> 2" in decoder
    rows = {int(line.split()[0]): line.split()[1:] for line in decoder.splitlines() if line.strip()[:1].isdigit()}
    assert rows == {0: ["──▶", "0"], 1: [], 2: [], 3: ["┄┄▶", "0"], 4: [], 5: ["──▶", "1", "┄┄▶", "1"]}


def test_the_text_says_what_no_table_has(compile_text):
    lowered = compile_text("student.decoder_layers=5")
    text = explain_text(lowered.plan, lowered.experiment)
    assert text.count("by formula (no published table has the pair)") == 2
    assert lowered.plan["copy"]["decoder"] == [0, 1, 2, 4, 5]


def test_the_text_of_random_and_listed_layers(compile_text):
    lowered = compile_text("student={decoder_layers: 2, init: {encoder: random, decoder: {layers: [3, 3]}}}")
    text = explain_text(lowered.plan, lowered.experiment)
    assert "encoder: 3 layers with random weights" in text
    assert "decoder: 2 of 6 layers of the teacher, as listed" in text
    assert "3    ──▶ 0, 1     ┄┄▶ 0" in text
    assert "frozen: embeddings, positions;" in text


def test_layers_of_another_model_are_counted_in_its_own_depth(compile_text, tmp_path):
    for name, depth in (("model", 6), ("other", 12)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({**BART, "decoder_layers": depth}), "utf-8")
    lowered = compile_text(
        "teacher={path: ./model}", "student={decoder_layers: 3, init: {decoder: {from: {path: ./other}}}}"
    )
    text = explain_text(lowered.plan, lowered.experiment)
    assert "decoder: 3 of 12 layers of another model, spaced: by the published table for 12 -> 3" in text
    assert "block-ends: by the published table for 6 -> 3" in text


def test_shapes_are_found_again_in_the_plan(compile_text):
    lowered = compile_text(
        "student={decoder_layers: 2, d_model: 32, heads: 2, ffn_dim: 48, "
        "init: {embeddings: random, encoder: random, decoder: random}}"
    )
    plan = lowered.plan
    assert stage_architecture(plan, "train").parameters == plan["student"]["parameters"]
    assert stage_architecture(plan, "teacher-train").parameters == plan["teacher"]["parameters"]
