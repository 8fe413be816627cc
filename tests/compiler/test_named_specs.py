"""Models that runs of other specs make: which run is meant, and what of it stands in the plan of who names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from distilc.compiler.cli import distilc
from distilc.compiler.explain.diff import diff_runs
from distilc.compiler.explain.explain import explain_json
from distilc.compiler.explain.sides import Subject, planned
from distilc.compiler.pipeline import compile_spec, lower_runs
from distilc.compiler.plan.emit import plan_files, plan_tree, validate_plan
from distilc.compiler.plan.lock import compare_locks, make_lock
from distilc.compiler.plan.plan import Plan
from distilc.compiler.spec.resolved import resolved_yaml, without_locations
from distilc.compiler.spec.setting_paths import spec_key
from distilc.runtime.plan.load import bind_plan

from .conftest import SPEC, make_site

SMALLER = SPEC.replace("name: small", "name: smaller").replace("encoder_layers: 3", "encoder_layers: 1")
TINY = """
extends: small.yaml
name: tiny
teacher: {spec: small.yaml}
student: {decoder_layers: 1}
loss: {labels: 1.0, logits: 0.5}
"""
Specs = Callable[..., Any]


class Written(dict[str, Any]):
    """A plan as JSON data, and the plan itself."""

    def __init__(self, typed: Plan) -> None:
        super().__init__(plan_tree(typed))
        self.typed = typed


@pytest.fixture
def specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Specs:
    """`specs(tiny=TEXT, ...)` writes files beside small.yaml and smaller.yaml, and lowers the last of them:
    (name of a run -> plan as it is written, diagnostics)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    Path("small.yaml").write_text(SPEC, "utf-8")
    Path("smaller.yaml").write_text(SMALLER, "utf-8")

    def lower(*overrides: str, fingerprints: bool = True, **texts: str) -> tuple[dict[str, Any], list[Any]]:
        for name, text in texts.items():
            Path(f"{name}.yaml").write_text(text, "utf-8")
        site = make_site(tmp_path / "workspace")
        compiled = compile_spec(Path(f"{([*texts] or ['small'])[-1]}.yaml"), overrides, site)
        plans, compiled = lower_runs(compiled, site, fingerprints=fingerprints and not compiled.failed)
        return {plan.name: Written(plan) for plan in plans}, compiled.diagnostics

    return lower


def keys(plan: Any) -> dict[str, str]:
    return {stage["id"]: stage["key"] for stage in plan["stages"] if stage["kind"] != "signals"}


def needs(plan: Any, id: str) -> dict[str, str]:
    return next(stage["needs"] for stage in plan["stages"] if stage["id"] == id)


def test_the_stages_of_the_other_run_are_there_with_the_keys_of_its_own(specs: Specs) -> None:
    own = keys(specs()[0]["small"])
    plans, diagnostics = specs(tiny=TINY)
    plan = plans["tiny"]
    assert diagnostics == []
    assert keys(plan) | {"data": own["data"]} == keys(plan)  # both have the same rows: once, by this run's name
    before = ("tokenizer", "teacher", "teacher-train", "student", "train")
    assert {id: key for id, key in keys(plan).items() if id.startswith("small/")} == {
        f"small/{id}": own[id] for id in before
    }
    assert len(set(keys(plan).values())) == len(keys(plan))
    assert keys(plan)["evaluate-teacher"] == own["evaluate-student"]
    assert needs(plan, "student") == {"teacher": "small/train"}
    assert needs(plan, "train")["teacher"] == "small/train"
    assert needs(plan, "data") == {"tokenizer": "small/tokenizer"}
    validate_plan(plan)
    assert bind_plan(json.loads(json.dumps(plan))).named["small"].run == "small"  # needs are of earlier stages
    assert "deepspeed.small.train.json" in plan_files(plan.typed)


def test_its_architecture_is_known_without_it(specs: Specs) -> None:
    plans, _ = specs(tiny=TINY)
    of_small = specs()[0]["small"]["student"]
    teacher = plans["tiny"]["teacher"]
    assert teacher["model"] == "small"
    assert [teacher[name] for name in ("parameters", "encoder_layers", "decoder_layers")] == [
        of_small[name] for name in ("parameters", "encoder_layers", "decoder_layers")
    ]
    assert plans["tiny"]["copy"]["decoder"] == [0] and plans["tiny"]["phi"]["decoder"] == [1]
    memory = explain_json([plan.typed for plan in plans.values()])["runs"][0]["memory"]
    assert {"small/teacher-train", "small/train", "train"} == set(memory)
    assert memory["train"]["teacher_gb"] > 0 and memory["small/train"]["teacher_gb"] == 0


def test_the_teacher_of_another_spec_writes_labels(specs: Specs) -> None:
    plans, diagnostics = specs(
        mix="extends: small.yaml\nname: mix\ntargets: [original, big, small]\n"
        "pseudo_labels: {big: {by: teacher}, small: {by: {spec: smaller.yaml, model: teacher}}}"
    )
    assert diagnostics == []
    plan = plans["mix"]
    assert needs(plan, "labels-big")["model"] == "teacher-train"
    assert needs(plan, "labels-small")["model"] == "smaller/teacher-train"
    own = keys(specs(smaller=SMALLER)[0]["smaller"])
    assert keys(plan)["smaller/teacher-train"] == own["teacher-train"]
    # Its tokenizer is trained on the same texts with the same settings, so its rows are these, too.
    assert "smaller/data" not in keys(plan) and "smaller/train" not in keys(plan)
    estimate = explain_json([plan.typed])["runs"][0]["estimate"]
    assert estimate["labels-small"]["rows"] == 100 and estimate["train"]["rows"] == 300


def test_rows_of_the_other_run_are_its_own(specs: Specs) -> None:
    plans, _ = specs(
        tiny="extends: small.yaml\nname: tiny\nteacher: {spec: smaller.yaml}",
        smaller=SMALLER.replace("limit: 100", "limit: 40"),
        last="extends: tiny.yaml\nname: last",
    )
    estimate = explain_json([plan.typed for plan in plans.values()])["runs"][0]["estimate"]
    assert (estimate["smaller/train"]["rows"], estimate["train"]["rows"]) == (40, 100)
    assert make_lock(plans["last"].typed)["inputs"]["smaller/data"]["train"][0]["limit"] == 40


def test_layers_come_from_other_specs(specs: Specs) -> None:
    plans, diagnostics = specs(
        tiny=TINY,
        mixed="extends: small.yaml\nname: mixed\nstudent: {init: {encoder: {from: {spec: tiny.yaml}}, "
        "decoder: {from: {spec: small.yaml, model: teacher}, layers: last}}}",
    )
    assert diagnostics == []
    plan = plans["mixed"]
    # small.yaml's trained teacher is this run's, too: the stage is there once, by this run's name.
    assert needs(plan, "student") == {
        "teacher": "teacher-train", "encoder_origin": "tiny/train", "decoder_origin": "teacher-train",
    }  # fmt: skip
    assert needs(plan, "tiny/student") == {"teacher": "tiny/small/train"}
    assert needs(plan, "tiny/small/student") == {"teacher": "teacher-train"}
    assert sorted(plan["named"]) == ["tiny", "tiny/small"]


def test_a_stage_of_both_runs_is_called_as_this_one_does_wherever_it_is_needed(specs: Specs) -> None:
    """The teacher is another spec's, untrained; the same model then gives layers under a name of this run."""
    folder = Path(__file__).parent / "invalid" / "models" / "bart"
    plans, diagnostics = specs(
        hub=f"extends: small.yaml\nname: hub\nteacher: {{path: {folder}}}\nstudent: {{decoder_layers: 1}}",
        plain=f"extends: small.yaml\nname: plain\nteacher: {{spec: hub.yaml, model: teacher}}\n"
        f"student: {{decoder_layers: 1, init: {{decoder: {{from: {{path: {folder}}}}}}}}}",
    )
    assert [d.code for d in diagnostics if d.severity == "error"] == []
    plan = plans["plain"]
    assert [id for id in keys(plan) if "/" in id] == []
    assert needs(plan, "student") == {"teacher": "decoder-origin", "decoder_origin": "decoder-origin"}
    assert needs(plan, "evaluate-teacher")["model"] == "decoder-origin"
    bind_plan(json.loads(json.dumps(plan)))


def test_a_run_of_the_same_file(specs: Specs) -> None:
    plans, diagnostics = specs(
        steps="extends: small.yaml\nname: steps\nvariants:\n  a: {}\n"
        "  b: {teacher: {spec: steps.yaml, variant: a}, student: {decoder_layers: 1}}\n"
        "  c: {teacher: {spec: steps.yaml, variant: b}, student: {decoder_layers: 1}}"
    )
    assert diagnostics == []
    a, b, c = plans["steps-a"], plans["steps-b"], plans["steps-c"]
    assert keys(c)["steps-b/train"] == keys(b)["train"]
    assert keys(c)["steps-b/steps-a/train"] == keys(b)["steps-a/train"] == keys(a)["train"]


def test_two_runs_of_one_name_are_told_apart(specs: Specs) -> None:
    plans, _ = specs(
        smaller=SMALLER.replace("name: smaller", "name: small"),
        two="extends: small.yaml\nname: two\nteacher: {spec: small.yaml}\ntargets: [o]\n"
        "pseudo_labels: {o: {by: {spec: smaller.yaml}}}",
    )
    plan = plans["two"]
    assert needs(plan, "student") == {"teacher": "small/train"}
    assert needs(plan, "labels-o")["model"] == "small-2/train"
    assert [Path(plan["named"][name]["file"]).name for name in ("small", "small-2")] == ["small.yaml", "smaller.yaml"]


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("variant: kd-seed1", "several-kd-seed1/train"),
        ("variant: sft", "several-sft/train"),
        ("variant: kd, model: teacher", "several-kd-seed1/teacher-train"),  # every run of the variant has it
    ],
)
def test_a_run_is_named_by_its_variant_or_by_its_name(specs: Specs, named: str, expected: str) -> None:
    plans, diagnostics = specs(
        several="extends: small.yaml\nname: several\n"
        "variants: {kd: {loss: {logits: 1.0}, seeds: [1, 2]}, sft: {}}",
        tiny=f"extends: small.yaml\nname: tiny\nteacher: {{spec: several.yaml, {named}}}",
    )
    assert diagnostics == []
    assert needs(plans["tiny"], "student") == {"teacher": expected}


def test_overrides_are_for_the_outer_spec_alone(specs: Specs) -> None:
    own = keys(specs()[0]["small"])
    plan = specs("training.learning_rate=0.1", "batch.examples=8", tiny=TINY)[0]["tiny"]
    assert keys(plan)["small/train"] == own["train"]
    assert keys(plan)["train"] != keys(specs(tiny=TINY)[0]["tiny"])["train"]


def test_editing_the_other_spec_moves_what_is_made_of_it(specs: Specs) -> None:
    before = specs(tiny=TINY)[0]["tiny"]
    Path("small.yaml").write_text(SPEC + "training: {learning_rate: 0.01}\n", "utf-8")
    Path("tiny.yaml").write_text(TINY + "training: {learning_rate: 3.0e-4}\n", "utf-8")
    after = specs(tiny=Path("tiny.yaml").read_text("utf-8"))[0]["tiny"]
    moved = {id for id, key in keys(after).items() if keys(before)[id] != key}
    assert moved == {"small/train", "student", "train", "convert-small-train", "evaluate-teacher", "convert-train",
                     "evaluate-student", "benchmark-teacher", "benchmark-student"}  # fmt: skip
    assert compare_locks(make_lock(before.typed), make_lock(after.typed)) == [
        "named.small.training.learning_rate was 0.0003, is 0.01"
    ]
    subjects = (Subject("tiny", "", plan["spec"], planned(plan.typed), None) for plan in (before, after))
    assert [value.key for value in diff_runs(*subjects).values] == ["training.learning_rate of small"]


def test_a_key_of_the_other_spec_is_named_with_its_run() -> None:
    assert spec_key("small/train", "train", ("learning_rate",)) == "training.learning_rate of small"
    assert spec_key("a/b/teacher-train", "train", ("seed",)) == "teacher.seed of a/b"
    assert spec_key("small/student", "student", ("extensions",)) == "extensions of small/student"


def test_the_name_of_the_file_counts_and_not_where_it_lies() -> None:
    tree = {"teacher": {"spec": "/here/small.yaml", "variant": "kd"}}
    assert without_locations(tree) == {"teacher": {"spec": "small.yaml", "variant": "kd"}}


def test_a_chain_of_many_runs_ends(specs: Specs) -> None:
    """Each run names the next two: the stages are few, and so are the looks at them."""
    steps = "".join(
        f"  s{i}: {{teacher: {{spec: chain.yaml, variant: s{i - 1}}}, student: {{decoder_layers: 2, init: {{decoder: "
        f"{{from: {{spec: chain.yaml, variant: s{max(0, i - 2)}}}}}}}}}}}\n"
        for i in range(1, 23)
    )
    chain = f"extends: small.yaml\nname: chain\nvariants:\n  s0: {{}}\n{steps}"
    _, diagnostics = specs(chain=chain)
    assert {found.code for found in diagnostics} == {"E435"}
    plans, diagnostics = specs(
        chain=chain.replace("\n  s22:", "\n  off:").replace("\n  s21:", "\n  off2:"),
        tiny="extends: small.yaml\nname: tiny\nteacher: {spec: chain.yaml, variant: s12}",
    )
    assert diagnostics == []
    assert len([id for id in keys(plans["tiny"]) if id.endswith("/train")]) == 13


def test_places_point_into_the_other_file(specs: Specs) -> None:
    places = specs(tiny=TINY)[0]["tiny"]["places"]
    assert places["teacher"][0] == "tiny.yaml" and places["small/teacher.architecture.family"][0] == "small.yaml"


def test_the_resolved_spec_compiles_to_the_same_keys(specs: Specs, tmp_path: Path) -> None:
    plan = specs(tiny=TINY)[0]["tiny"]
    site = make_site(tmp_path / "workspace")
    (tmp_path / "elsewhere").mkdir()
    resolved = tmp_path / "elsewhere" / "resolved.yaml"
    resolved.write_text(resolved_yaml(compile_spec(Path("tiny.yaml"), (), site).runs[0]), "utf-8")
    (again,), _ = lower_runs(compile_spec(resolved, (), site), site, fingerprints=True)
    assert keys(plan_tree(again)) == keys(plan)


def test_a_thousand_runs_look_at_the_other_spec_once(specs: Specs, monkeypatch: pytest.MonkeyPatch) -> None:
    from distilc.compiler import pipeline

    compiled: list[Path] = []
    before = pipeline._compile
    monkeypatch.setattr(pipeline, "_compile", lambda path, *rest: [compiled.append(path), before(path, *rest)][1])
    plans, diagnostics = specs(many=TINY.replace("name: tiny", "name: many") + f"seeds: {list(range(50))}")
    assert diagnostics == [] and len(plans) == 50
    assert [path.name for path in compiled] == ["many.yaml", "small.yaml"]


@pytest.mark.parametrize("fingerprints", [True, False])
def test_errors_of_the_other_spec_are_errors_of_this_one(specs: Specs, fingerprints: bool) -> None:
    """Those of the reading, and those that only the shapes of its models show."""
    for mistake, code in (("batch: {examples: 0}", "E205"), ("student: {decoder_layers: 9}", "E521")):
        plans, diagnostics = specs(
            wrong=f"extends: small.yaml\nname: wrong\n{mistake}",
            tiny="extends: small.yaml\nname: tiny\nteacher: {spec: wrong.yaml}",
            fingerprints=fingerprints,
        )
        assert not plans
        (found,) = diagnostics
        assert (found.code, found.file, found.line, found.named_by) == (code, "wrong.yaml", 3, ("tiny.yaml:3",))


def test_check_of_both_tells_a_mistake_once(specs: Specs) -> None:
    specs(wrong="extends: small.yaml\nname: wrong\nbatch: {examples: 0}", tiny="extends: small.yaml\nname: tiny\n"
          "teacher: {spec: wrong.yaml}")  # fmt: skip
    for files in (["tiny.yaml", "wrong.yaml"], ["wrong.yaml", "tiny.yaml"]):
        result = CliRunner().invoke(distilc, ["check", *files, "--format", "json", "--offline"])
        assert [found["code"] for found in json.loads(result.output)["diagnostics"]] == ["E205"]


def test_a_stand_in_is_never_followed(specs: Specs) -> None:
    """`spec: 3` was refused; teacher.yaml, the schema's example, may lie there all the same."""
    _, diagnostics = specs(teacher="version: 2", tiny="extends: small.yaml\nname: tiny\nteacher: {spec: 3}")
    assert {found.file for found in diagnostics} == {"tiny.yaml"}


def test_widths_and_lengths_are_held_to_the_model_that_is_made(specs: Specs) -> None:
    _, diagnostics = specs(tiny=TINY + "data: {max_source_tokens: 5000}", fingerprints=False)
    assert [found.code for found in diagnostics] == ["E513"]
    _, diagnostics = specs(tiny=TINY.replace("decoder_layers: 1", "decoder_layers: 3"), fingerprints=False)
    assert [found.code for found in diagnostics] == ["E521"]


def test_a_teacher_that_is_trained_further_may_have_done_another_task(specs: Specs) -> None:
    other = "extends: small.yaml\nname: tiny\ntask: translation\n"
    _, diagnostics = specs(tiny=other + "teacher: {spec: small.yaml, train: {}}")
    assert [found.code for found in diagnostics] == []
    _, diagnostics = specs(tiny=other + "student: {init: {decoder: {from: {spec: small.yaml}}}}")
    assert "E436" not in [found.code for found in diagnostics]


def test_a_labeller_that_another_run_trains_is_held_to_its_own_positions(specs: Specs) -> None:
    label = "extends: small.yaml\nname: l\ntargets: [x]\npseudo_labels: {x: {by: {spec: smaller.yaml}, generation: {max_length: %d}}}"
    _, fitting = specs(l=label % 512)
    assert not fitting
    _, (found,) = specs(l=label % 513, fingerprints=False)
    assert (found.code, found.path) == ("E513", "pseudo_labels.x.generation.max_length")
