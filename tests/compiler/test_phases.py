"""`training` as a list: each phase is a stage of its own, with what the spec says where the phase says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from spec_texts import SMALL

from distilc.compiler.explain.explain import explain_text
from distilc.compiler.explain.forecast import forecast_effort
from distilc.compiler.pipeline import compile_spec
from distilc.compiler.spec.compiled import Compiled
from distilc.compiler.spec.resolved import resolved_yaml
from distilc.compiler.spec.setting_paths import changed_settings

FIRST = "loss: {hidden: {decoder: 2.0}}, learning_rate: 1e-3, stopping: {max_steps: 7}"
SECOND = "loss: {labels: 1.0, logits: 0.5}, learning_rate: 1e-4, batch: {examples: 16}"
PHASES = f"training=[{{{FIRST}}}, {{{SECOND}}}]"


def keys(lowered: Any) -> dict[str, str]:
    return {stage["id"]: stage["key"] for stage in lowered.plan["stages"]}


def settings(lowered: Any, id: str) -> Any:
    return lowered.stage(id)["settings"]


def test_each_phase_is_a_stage_that_begins_with_the_model_of_the_one_before(compile_text):
    lowered = compile_text(PHASES, "stopping.max_steps=9")
    assert lowered.codes == []
    first, last = lowered.stage("train-1"), lowered.stage("train")
    assert first["needs"]["model"] == "student" and last["needs"]["model"] == "train-1"
    assert settings(lowered, "train-1")["stopping"]["max_steps"] == 7
    assert settings(lowered, "train")["stopping"]["max_steps"] == 9  # the spec's: the phase has none
    assert [settings(lowered, id)["batch"]["size"] for id in ("train-1", "train")] == [64, 16]
    assert [settings(lowered, id)["learning_rate"] for id in ("train-1", "train")] == [1e-3, 1e-4]
    assert settings(lowered, "train-1")["objective"]["labels"] is None
    assert settings(lowered, "train")["objective"]["hidden"] is None
    assert lowered.stage("evaluate-student")["needs"]["model"] == "train"
    assert lowered.stage("train-1")["needs"]["teacher"] == "teacher-train"


def test_a_phase_alone_is_the_training_of_a_spec_with_its_sections(compile_text):
    one = compile_text("training={learning_rate: 1e-3}", "stopping.max_steps=7", "loss={hidden: {decoder: 2.0}}")
    listed = compile_text("training=[{learning_rate: 1e-3}]", "stopping.max_steps=7", "loss={hidden: {decoder: 2.0}}")
    assert keys(one) == keys(listed)
    phased = compile_text(PHASES)
    assert keys(phased)["train-1"] == keys(one)["train"]


def test_a_change_of_a_later_phase_leaves_the_earlier_one(compile_text):
    before, after = compile_text(PHASES), compile_text(PHASES, "training[1].learning_rate=2e-4")
    assert keys(before)["train-1"] == keys(after)["train-1"] and keys(before)["train"] != keys(after)["train"]
    earlier = compile_text(PHASES, "training[0].learning_rate=2e-4")
    assert keys(before)["student"] == keys(earlier)["student"] and keys(before)["train"] != keys(earlier)["train"]


def test_a_section_of_a_phase_stands_in_the_place_of_the_whole_one(compile_text):
    lowered = compile_text("training=[{stopping: {max_steps: 5}}, {}]", "stopping={max_hours: 1, patience: 3}")
    assert settings(lowered, "train-1")["stopping"]["patience"] is None
    assert settings(lowered, "train")["stopping"]["patience"] == 3


def test_what_is_best_is_decided_by_what_the_phase_measures(compile_text):
    lowered = compile_text("training=[{validation: {metrics: [loss]}}, {}]", "validation.metrics=[loss,rouge2]")
    assert settings(lowered, "train-1")["stopping"]["monitor"] == "loss"
    assert settings(lowered, "train")["stopping"]["monitor"] == "rouge2"


def test_a_teacher_is_scored_once_for_phases_that_are_held_against_the_same_scores(compile_text):
    stops = "stopping={max_steps: 9, retention: {rouge2: 90}}"
    equal = compile_text("training=[{}, {}]", stops, "validation.metrics=[loss,rouge2]")
    scored = [stage["id"] for stage in equal.plan["stages"] if stage["id"].startswith("evaluate-teacher-validation")]
    assert scored == ["evaluate-teacher-validation-1"]
    assert equal.stage("train")["needs"]["reference"] == equal.stage("train-1")["needs"]["reference"] == scored[0]
    other = compile_text(
        "training=[{stopping: {max_steps: 5}}, {}]", stops, "validation={metrics: [loss,rouge2], limit: 5}"
    )
    assert "reference" not in other.stage("train-1")["needs"]
    assert other.stage("train")["needs"]["reference"] == "evaluate-teacher-validation"


def test_each_phase_keeps_candidates_of_its_own(compile_text):
    kept = "{loss: {logits: {candidates: {top_k: 8}}}}"
    lowered = compile_text(f"training=[{kept}, {{loss: {{logits: {{candidates: {{top_k: 4}}}}}}}}]")
    assert lowered.stage("train-1")["needs"]["candidates"] == "candidates-1"
    assert lowered.stage("train")["needs"]["candidates"] == "candidates"


def test_the_resolved_spec_has_the_phases_and_compiles_to_the_same_keys(compile_text):
    lowered = compile_text(PHASES, "stopping.max_steps=9")
    text = resolved_yaml(lowered.typed.run)
    tree = yaml.safe_load(text)
    assert len(tree["training"]) == 2 and not {"loss", "batch", "stopping", "validation"} & tree.keys()
    again = compile_text(text=text)
    assert again.codes == [] and keys(again) == keys(lowered)


def test_explain_tells_the_loss_and_the_effort_of_each_phase(compile_text):
    plan = compile_text(PHASES, "training[0].loss.hidden.decoder={from: 2, to: 0}").typed
    text = explain_text(plan)
    assert "loss of phase 1: (changing) x hidden states of the decoder" in text
    assert "loss of phase 2: labels + 0.5 x logits" in text
    assert "train-1: loss.hidden.decoder: 2 until the start" in text
    assert "no term of the loss uses it" not in text[text.index("decoder:") :]  # φ is of the first phase
    assert forecast_effort(plan)["train-1"]["steps"] == 7


def test_settings_of_a_phase_lead_back_to_it(compile_text):
    a, b = (settings(compile_text(PHASES, f"training[0].{change}"), "train-1")
            for change in ("learning_rate=1e-3", "learning_rate=2e-3"))  # fmt: skip
    assert [change.key for change in changed_settings("train-1", "train", a, b)] == ["training[0].learning_rate"]
    c = settings(compile_text(PHASES, "training[0].stopping.max_steps=8"), "train-1")
    assert [change.key for change in changed_settings("train-1", "train", a, c)] == ["training[0].stopping.max_steps"]


def found(compile_text: Any, *overrides: str) -> list[tuple[str, str]]:
    return [(told.code, told.path) for told in compile_text(*overrides).diagnostics]


def test_rules_are_held_for_every_phase(compile_text):
    """A message is about what is written: the phase's own section, or the spec's that it takes."""
    assert found(compile_text, "training=[{loss: {labels: 0}}, {}]") == [("E409", "training[0].loss")]
    long = "{warmup: {steps: 20}, stopping: {max_steps: 10}}"
    assert found(compile_text, f"training=[{{}}, {long}]") == [("W403", "training[1].warmup.steps")]
    assert found(compile_text, "training=[{}, {}]", "loss={logits: {beta: 0.5}}") == [("E413", "loss.logits.beta")]
    # known with the data alone: 100 rows, 64 a step, 5 epochs
    assert found(compile_text, "training=[{warmup: {steps: 10}}, {}]") == [("W403", "training[0].warmup.steps")]
    # of the models
    same = "{loss: {hidden: {encoder: 1}}}"
    assert found(compile_text, f"training=[{{}}, {same}]") == [("E528", "training[1].loss")]


def test_phi_of_one_phase_is_used(compile_text):
    assert found(compile_text, PHASES, "phi.decoder=block-ends") == []
    assert found(compile_text, "training=[{}, {}]", "phi.decoder=block-ends") == [("W415", "phi.decoder")]


def test_a_section_that_no_phase_takes_is_said(compile_text):
    assert found(compile_text, PHASES, "loss={labels: 1}") == [("W404", "loss")]
    assert found(compile_text, f"training=[{{{FIRST}}}, {{}}]", "loss={labels: 1}") == []


def test_a_variant_may_have_phases(tmp_path: Path, monkeypatch):
    from conftest import make_site

    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(
        SMALL + f"training: {{learning_rate: 1e-3}}\nvariants:\n  one: {{}}\n  two: {{training: [{{{FIRST}}}, {{}}]}}\n"
    )
    compiled: Compiled = compile_spec(Path("spec.yaml"), (), make_site(tmp_path))
    assert [len(run.experiment.phases) for run in compiled.runs] == [1, 2]
    assert compiled.diagnostics == []


def test_kept_states_are_read_by_the_last_phase(compile_text, tmp_path: Path):
    """Those of an earlier one are computed: they are in no key."""
    kept = compile_text(
        f"training=[{{{FIRST}}}, {{}}]", "loss={labels: 1, logits: 1}", "stopping={max_epochs: 50}",
        scratch=tmp_path / "scratch", scratch_limit_gb=1000.0,
    )  # fmt: skip
    assert kept.stage("train")["execution"]["signals"] and "signals" not in kept.stage("train-1")["execution"]
    assert keys(compile_text(f"training=[{{{FIRST}}}, {{}}]", "loss={labels: 1, logits: 1}", "stopping={max_epochs: 50}"))[
        "train"
    ] == keys(kept)["train"]
