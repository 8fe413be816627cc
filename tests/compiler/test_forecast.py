"""What a plan will take, read from the plan alone."""

import json

import pytest

from distilc.compiler.explain.forecast import forecast_effort, forecast_memory, forecast_total

PARTS = ("weights", "gradients", "optimizer", "teacher", "activations", "logits", "signals", "workspace")
KD = "loss={labels: 1, logits: 0.8, hidden: {decoder: 3}}"


def test_memory_is_told_by_what_it_is_for(compile_text):
    memory = forecast_memory(compile_text(zero=2, per_node=2, micro_batch_tokens=512).typed)
    assert set(memory) == {"teacher-train", "train"}
    found = memory["train"]
    assert (found["zero"], found["micro_batch_tokens"]) == (2, 512)
    assert found["total_gb"] == pytest.approx(sum(found[f"{part}_gb"] for part in PARTS), abs=1e-3)
    assert found["teacher_gb"] == found["signals_gb"] == 0


def test_all_stages_of_zero_are_there_and_the_chosen_one_is_one_of_them(compile_text):
    found = forecast_memory(compile_text(zero=2, per_node=2).typed)["train"]
    assert list(found["stages"]) == ["0", "1", "2", "3"]
    for part in (*PARTS, "total"):
        assert found["stages"]["2"][f"{part}_gb"] == found[f"{part}_gb"]
    gradients = [found["stages"][zero]["gradients_gb"] for zero in "0123"]
    assert gradients[0] == gradients[1] > gradients[2] == gradients[3]


def test_the_reason_is_the_sites(compile_text):
    found = forecast_memory(compile_text(zero=2, per_node=2).typed)["train"]
    assert found["reason"] == "stage 2: the site says so"
    assert found["usable_gb"] == pytest.approx(0.9 * 16 / 2)
    assert all(stage["fits"] and stage["most_tokens"] > 4096 for stage in found["stages"].values())


def test_a_stage_that_cannot_be_is_marked(compile_text):
    found = forecast_memory(compile_text("precision=bf16").typed)["train"]
    assert [stage["possible"] for stage in found["stages"].values()] == [False, True, True, True]


def test_a_teacher_costs_memory_only_where_the_loss_looks_at_it(compile_text):
    without, with_it = (forecast_memory(compile_text(*loss).typed)["train"] for loss in ((), (KD,)))
    for part in ("teacher", "signals"):
        assert without[f"{part}_gb"] == 0 < with_it[f"{part}_gb"]
    assert with_it["logits_gb"] > without["logits_gb"]
    assert with_it["weights_gb"] == without["weights_gb"]


def test_the_plan_and_the_forecast_agree_on_what_was_chosen(compile_text, tmp_path):
    """The micro-batch of the plan is the largest that the table says there is room for."""
    changes = {"device": "cuda", "memory_gb": 1.6, "per_node": 2}
    found = forecast_memory(compile_text(KD, text=path_spec(tmp_path), **changes).typed)["train"]
    room = found["stages"][str(found["zero"])]["most_tokens"]
    assert 1024 < found["micro_batch_tokens"] <= room < 65536
    assert found["total_gb"] <= found["usable_gb"]


def path_spec(folder) -> str:
    (folder / "model").mkdir()
    config = {"model_type": "bart", "encoder_layers": 2, "decoder_layers": 4, "d_model": 256}
    config |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    (folder / "model" / "config.json").write_text(json.dumps(config), "utf-8")
    return """
version: 1
name: small
task: summarization
teacher: {path: ./model}
student: {decoder_layers: 2}
data:
  train: {builtin: bulletins}
  validation: {builtin: bulletins}
  test: {builtin: bulletins}
"""


def test_effort_of_what_trains(compile_text):
    estimate = forecast_effort(compile_text("stopping={max_steps: 50}", "batch={examples: 10}").typed)
    assert set(estimate) == {"teacher-train", "train"}
    train, teacher = estimate["train"], estimate["teacher-train"]
    assert (train["rows"], train["steps"], train["data"]) == (100, 50, "corpus")
    assert train["tokens"] == pytest.approx(500 * 81 * 1.3, rel=0.01)
    assert train["petaflops"] == pytest.approx(train["gigaflops_per_token"] * train["tokens"] / 1e6, rel=0.01)
    assert train["gigaflops_per_token"] < teacher["gigaflops_per_token"]
    assert train["disk_gb"] < teacher["disk_gb"]
    assert set(train["hours"]) == {"CPU core"}


def test_effort_of_labels(compile_text):
    estimate = forecast_effort(
        compile_text("pseudo_labels={own: {by: teacher}, dump: {file: rows.jsonl}}", "targets=[own]").typed
    )
    labels = estimate["labels-own"]
    assert labels["rows"] == 100 and "steps" not in labels
    assert labels["petaflops"] > 0 and 0 < labels["disk_gb"] < 1e-3


def test_what_cannot_be_known_is_unresolved(compile_text, tmp_path):
    text = path_spec(tmp_path)
    estimate = forecast_effort(compile_text("data.train={hub: org/rows}", text=text, device="cuda").typed)
    train = estimate["train"]
    for name in ("rows", "steps", "tokens", "petaflops", "data", "signals_gb"):
        assert train[name] == "unresolved"
    assert set(train["hours"].values()) == {"unresolved"}
    assert train["disk_gb"] > 0 and train["gigaflops_per_token"] > 0


def test_the_sites_own_device_is_the_one_that_is_told(compile_text, tmp_path):
    given = {"text": path_spec(tmp_path), "device": "cuda", "memory_gb": 80.0}
    known = compile_text("precision=bf16", device_name="NVIDIA H200", **given).typed
    assert set(forecast_effort(known)["train"]["hours"]) == {"H200"}
    hours = forecast_effort(compile_text("precision=bf16", device_name="", **given).typed)["train"]["hours"]
    assert {"A100", "H100"} <= set(hours) and hours["H100"] < hours["A100"]


def test_the_total_counts_a_shared_stage_once(compile_text):
    plans = [compile_text(f"student.decoder_layers={depth}").typed for depth in (1, 2, 3)]
    found = forecast_total(plans)
    efforts = [forecast_effort(plan) for plan in plans]
    once = efforts[0]["teacher-train"]["petaflops"] + sum(effort["train"]["petaflops"] for effort in efforts)
    assert (found["runs"], found["stages"], found["shared"], found["unresolved"]) == (3, 4, 2, 0)
    assert found["petaflops"] == pytest.approx(once, rel=1e-3)
    assert forecast_total(plans + plans)["petaflops"] == found["petaflops"]
    assert forecast_total([])["petaflops"] == 0


def test_the_total_leaves_out_what_is_unresolved(compile_text, tmp_path):
    text = path_spec(tmp_path)
    plans = [compile_text(text=text).typed, compile_text("data.train={hub: org/rows}", text=text).typed]
    found = forecast_total(plans)
    assert (found["stages"], found["unresolved"]) == (2, 1)
    assert found["petaflops"] == forecast_total(plans[:1])["petaflops"]
