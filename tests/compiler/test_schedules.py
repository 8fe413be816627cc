"""Numbers of the loss that change: what the plan says of them, and that a number stays what it was."""

from __future__ import annotations

from typing import Any

from distilc.compiler.explain.explain import explain_json, explain_text


def train(lowered: Any) -> Any:
    return next(stage for stage in lowered.plan["stages"] if stage["id"] == "train")


def moment(**given: float) -> dict[str, float | None]:
    return {"epochs": None, "steps": None, "ratio": None, **given}


def test_a_schedule_is_in_the_plan_and_its_larger_end_in_its_place(compile_text: Any) -> None:
    lowered = compile_text(
        "loss={labels: {weight: {from: 1.0, to: 0.2}}, cosine: {from: 0.5, to: 0.0, shape: step, begin: {epochs: 1}}, "
        "logits: {weight: {from: 0.0, to: 0.8, end: {epochs: 2}}, "
        "temperature: {from: 4.0, to: 1.0, shape: cosine, begin: {steps: 5}, end: {ratio: 0.5}}}}"
    )
    objective = train(lowered)["settings"]["objective"]
    assert objective["labels"]["weight"] == 1.0 and objective["cosine"] == 0.5
    assert (objective["logits"]["weight"], objective["logits"]["temperature"]) == (0.8, 4.0)
    start = moment(steps=0)
    assert objective["schedules"] == {
        "labels.weight": {"initial": 1.0, "final": 0.2, "shape": "linear", "begin": start, "end": moment(ratio=1.0)},
        "cosine": {"initial": 0.5, "final": 0.0, "shape": "step", "begin": moment(epochs=1.0), "end": None},
        "logits.weight": {"initial": 0.0, "final": 0.8, "shape": "linear", "begin": start, "end": moment(epochs=2.0)},
        "logits.temperature": {
            "initial": 4.0, "final": 1.0, "shape": "cosine", "begin": moment(steps=5), "end": moment(ratio=0.5),
        },
    }  # fmt: skip
    text = explain_text(lowered.typed)
    assert "loss.logits.weight: 0 until the start, then in a straight line to 0.8 at epoch 2\n" in text
    assert "loss.logits.temperature: 4 until step 5, then along a cosine to 1 at 50 % of the steps\n" in text
    assert "loss.cosine: 0.5 until epoch 1, then 0 at once\n" in text
    (run,) = explain_json([lowered.typed])["runs"]
    assert run["schedules"] == objective["schedules"]


def test_a_number_and_a_schedule_that_goes_nowhere_are_the_same_plan(compile_text: Any) -> None:
    number = train(compile_text("loss={labels: 1.0, logits: 0.8}"))
    assert "schedules" not in number["settings"]["objective"]
    same = train(compile_text("loss={labels: 1.0, logits: {weight: {from: 0.8, to: 0.8, end: {steps: 9}}}}"))
    assert same["key"] == number["key"]
    other = train(compile_text("loss={labels: 1.0, logits: {weight: {from: 0.7, to: 0.8, end: {steps: 9}}}}"))
    assert other["key"] != number["key"]


def test_a_term_that_is_on_at_any_time_needs_its_teacher_and_its_layers(compile_text: Any) -> None:
    lowered = compile_text("loss={labels: 1.0, hidden: {decoder: {from: 3.0, to: 0.0, end: {steps: 9}}}}")
    stage = train(lowered)
    assert "teacher" in stage["needs"] and stage["settings"]["objective"]["phi"]["decoder"]
    assert stage["settings"]["objective"]["hidden"]["decoder"] == 3.0
    # The temperature of a term that is off changes nothing.
    off = train(compile_text("loss={labels: 1.0, logits: {weight: 0, temperature: {from: 4.0, to: 1.0}}}"))
    assert "schedules" not in off["settings"]["objective"] and off["settings"]["objective"]["logits"] is None
