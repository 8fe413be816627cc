"""What `explain` says, for people and for programs."""

import json
import re

from distilc.compiler.explain.explain import explain_json, explain_text, explain_texts
from distilc.compiler.explain.layer_drawing import LayerMap, draw_layers

BART = {
    "model_type": "bart", "vocab_size": 60, "d_model": 16, "encoder_layers": 4, "decoder_layers": 12,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
}  # fmt: skip


MASKED_LM = """
version: 1
name: small
task: masked-lm
teacher: {path: ./model}
student: {encoder_layers: 6}
data:
  train: {files: rows.jsonl}
  validation: {files: rows.jsonl}
  test: {files: rows.jsonl}
"""


def explained(lowered) -> dict:
    (run,) = explain_json([lowered.typed])["runs"]
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
    text = explain_text(lowered.typed)
    assert text.count("in the store") == 3


def test_what_cannot_be_known_is_unresolved_and_so_is_what_needs_it(compile_text, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(BART), "utf-8")
    lowered = compile_text("data.test={hub: org/rows}", "teacher={path: ./model}", "data.max_source_tokens=64")
    keys = {stage["id"]: stage["key"] for stage in explained(lowered)["stages"]}
    known = {id for id, key in keys.items() if key != "unresolved"}
    assert known == {"teacher", "student", "convert-teacher"}


def test_the_key_of_labels_for_unknown_rows_is_unresolved(compile_text, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(BART), "utf-8")
    lowered = compile_text(
        "data.train={hub: org/rows}", "teacher={path: ./model}", "data.max_source_tokens=64",
        "pseudo_labels={own: {by: teacher}}", "targets=[own]",
    )  # fmt: skip
    keys = {stage["id"]: stage["key"] for stage in explained(lowered)["stages"]}
    assert keys["labels-own"] == keys["train"] == "unresolved" != keys["student"]


def test_the_text_shows_all_stages_of_zero_with_the_chosen_one_marked(compile_text, tmp_path):
    lowered = compile_text(zero=2, per_node=2)
    lines = explain_text(lowered.typed).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("  train: "))
    rows = [line.split() for line in lines[start + 2 : start + 6]]
    assert [row[0] if row[0] != "▸" else row[1] for row in rows] == ["0", "1", "2", "3"]
    assert [row[0] == "▸" for row in rows] == [False, False, True, False]


def test_the_text_draws_both_maps(compile_text):
    lowered = compile_text()
    text = explain_text(lowered.typed)
    encoder = text[text.index("\nencoder:") : text.index("\ndecoder:")]
    assert encoder.strip() == "encoder: all 3 layers of the teacher, in order"
    decoder = text[text.index("\ndecoder:") : text.index("\nfrozen:")]
    assert "spaced: by the published table for 6 -> 2" in decoder
    assert "block-ends: by the published table for 6 -> 2" in decoder
    drawing = draw_layers(LayerMap("teacher", 6, 6, lowered.plan["copy"]["decoder"], lowered.plan["phi"]["decoder"]))
    assert "\n".join(drawing) in decoder


def test_the_text_says_whether_the_loss_uses_phi(compile_text):
    unused = "no term of the loss uses it"
    for overrides, said in (((), True), (("loss={labels: 1, hidden: {decoder: 3}}",), False)):
        lowered = compile_text(*overrides)
        assert (unused in explain_text(lowered.typed)) == said


def test_colour_is_for_terminals(compile_text):
    lowered = compile_text()
    plain = explain_text(lowered.typed)
    colored = explain_text(lowered.typed, color=True)
    assert "\033[" not in plain and "\033[" in colored
    assert re.sub(r"\033\[\d*m", "", colored) == plain


def test_a_model_without_a_decoder_has_one_stack(compile_text, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "bert"}), "utf-8")
    (tmp_path / "rows.jsonl").write_text('{"text": "a few words"}\n', "utf-8")
    lowered = compile_text(text=MASKED_LM)
    text = explain_text(lowered.typed)
    assert "encoder: 6 of 12 layers of the teacher, spaced: by the published table for 12 -> 6" in text
    assert "decoder:" not in text


def test_several_runs_end_with_what_they_take_together(compile_text):
    lowered = compile_text()
    other = compile_text("student.decoder_layers=3")
    one = explain_texts([lowered.typed])
    assert one == explain_text(lowered.typed)
    both = explain_texts([lowered.typed, other.typed])
    assert both.startswith(one)
    assert both.splitlines()[-1].startswith("estimate of all 2 runs: ")
    assert "(1 stages spared)" in both.splitlines()[-1]  # the teacher is trained once


def test_the_text_says_what_no_table_has(compile_text):
    lowered = compile_text("student.decoder_layers=5")
    text = explain_text(lowered.typed)
    assert text.count("by formula (no published table has the pair)") == 2
    assert lowered.plan["copy"]["decoder"] == [0, 1, 2, 4, 5]


def test_the_text_of_random_and_listed_layers(compile_text):
    lowered = compile_text("student={decoder_layers: 2, init: {encoder: random, decoder: {layers: [3, 3]}}}")
    text = explain_text(lowered.typed)
    assert "encoder: 3 layers with random weights" in text
    assert "decoder: 2 copies of 1 of the 6 layers of the teacher, as listed" in text
    assert "\n".join(draw_layers(LayerMap("teacher", 6, 6, [3, 3], [3, 5]))) in text
    assert "frozen: embeddings, positions;" in text


def test_layers_of_another_model_are_counted_in_its_own_depth(compile_text, tmp_path):
    for name, depth in (("model", 6), ("other", 12)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({**BART, "decoder_layers": depth}), "utf-8")
    lowered = compile_text(
        "teacher={path: ./model}", "student={decoder_layers: 3, init: {decoder: {from: {path: ./other}}}}"
    )
    text = explain_text(lowered.typed)
    assert "decoder: 3 of 12 layers of other, spaced: by the published table for 12 -> 3" in text
    assert "block-ends: by the published table for 6 -> 3" in text


def test_shapes_are_found_again_in_the_plan(compile_text):
    lowered = compile_text(
        "student={decoder_layers: 2, d_model: 32, heads: 2, ffn_dim: 48, "
        "init: {embeddings: random, encoder: random, decoder: random}}"
    )
    stages, plan = lowered.typed.stages, lowered.plan
    assert stages["train"].model.parameters == stages["student"].settings["parameters"] == plan["student"]["parameters"]
    assert stages["teacher-train"].model.parameters == plan["teacher"]["parameters"]


def test_the_text_tells_the_loss_and_the_targets(compile_text, tmp_path):
    (tmp_path / "dump.jsonl").write_text('{"id": "0", "text": "a"}\n', "utf-8")
    lowered = compile_text(
        "loss={labels: {weight: 1, smoothing: 0.1}, logits: {weight: {from: 0, to: 0.8}}, hidden: {decoder: 3}, cosine: 0.5}",
        "pseudo_labels={own: {by: teacher, best_of: 2, generation: {beams: 4}, keep: {min_rouge2: 1}}, dump: {file: dump.jsonl}}",
        "targets=[original, {own: 0.5}, dump]",
    )
    lines = explain_text(lowered.typed).splitlines()
    (loss,) = [line for line in lines if line.startswith("loss:")]
    assert loss == (
        "loss: labels (smoothing 0.1) + (changing) x logits (temperature 2, divergence forward-kl) "
        "+ 3 x hidden states of the decoder + 0.5 x cosine"
    )
    (targets,) = [line for line in lines if line.startswith("targets:")]
    assert targets == (
        "targets: original + 0.5 x own (by marian 3-6, teacher-train: ctranslate2, 4 beams, the best of 2) + dump (a file)"
    )


def engines(lowered) -> list[str]:
    lines = explain_text(lowered.typed).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("texts of the evaluation"))
    return lines[start : lines.index("", start)]


def test_the_text_tells_what_writes_the_texts(compile_text):
    at_run_time = "the run takes transformers where the model's own generation settings need it"
    lowered = compile_text(
        "evaluation={generation: {no_repeat_ngram: 3}, teacher_generation: {beams: 1}, exports: [{compute_type: int8}]}"
    )
    assert engines(lowered) == [
        "texts of the evaluation and of the speed are written by:",
        f"  teacher: ctranslate2 fp32 ({at_run_time})",
        "  student: transformers (ctranslate2 treats no_repeat_ngram differently)",
        "  student-int8: ctranslate2 int8",
    ]
    (run,) = explain_json([lowered.typed])["runs"]
    assert run["engines"]["teacher"] == {"engine": "ctranslate2", "compute_type": "fp32", "why": at_run_time}
    lowered = compile_text(
        "evaluation={speed: null, generation: {engine: transformers}, teacher_generation: {sampling: {top_p: 0.9}}}"
    )
    assert engines(lowered) == [
        "texts of the evaluation are written by:",
        "  teacher: transformers (ctranslate2 has no sampling that is independent of how rows are divided among processes)",
        "  student: transformers (the spec asks for it)",
    ]
    lowered = compile_text(engine="transformers")
    assert engines(lowered)[1] == "  teacher: transformers (the site asks for it)"


def test_where_no_text_is_written_no_engine_is_told(compile_text, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "bert"}), "utf-8")
    (tmp_path / "rows.jsonl").write_text('{"text": "a few words"}\n', "utf-8")
    lowered = compile_text(text=MASKED_LM)
    assert "written by" not in explain_text(lowered.typed)
    assert explained(lowered)["engines"] == {}
