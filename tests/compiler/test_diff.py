"""`distilc diff`: specs, plans and finished runs beside each other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from spec_texts import SMALL

from distilc.compiler.cli import distilc
from distilc.compiler.explain.diff import pair_runs
from distilc.compiler.explain.sides import Subject

BASE = SMALL.replace("train: {builtin: bulletins, limit: 100}", "train: {files: a.jsonl}")
SWEEP = "extends: a.yaml\nname: {}\nvariants: {{sft: {{}}, kd: {{loss: {{logits: {{weight: {}}}}}}}}}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec `a.yaml` and its data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    Path("a.jsonl").write_text('{"source": "a", "target": "b"}\n', "utf-8")
    Path("a.yaml").write_text(BASE, "utf-8")
    return tmp_path


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(distilc, [*arguments, "--offline"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def diff(*arguments: str) -> Any:
    result = run("diff", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def pair(*arguments: str) -> Any:
    (found,) = diff(*arguments)["pairs"]
    return found


def write(name: str, text: str) -> str:
    Path(name).write_text(f"extends: a.yaml\n{text}\n", "utf-8")
    return name


def values(found: Any) -> dict[str, tuple[Any, Any]]:
    return {change["path"]: (change["a"], change["b"]) for change in found["values"]}


def stages(found: Any) -> dict[str, Any]:
    return {stage["id"]: stage for stage in found["stages"]}


# --- what counts as a difference -------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "stopping: {monitor: loss}",
        "evaluation: {metrics: [rouge1, rouge2, rougeLsum]}",
        "loss: {labels: 1}",
        "student: {encoder_layers: 3, d_model: 64, heads: 4}",
        "data: {columns: {source: source}}",
        "teacher: {train: {stopping: {patience: null}}}",
        "seeds: [42]",
        "tracking: {experiment: small}",
    ],
)
def test_a_default_that_is_written_out_is_no_difference(text: str) -> None:
    found = pair("a.yaml", write("b.yaml", text))
    assert found["values"] == [] and found["equal"] and all(stage["same"] for stage in found["stages"])


def test_a_name_is_a_value_that_changes_no_stage() -> None:
    found = pair("a.yaml", write("b.yaml", "variants: {only: {}}"))
    assert values(found) == {"name": ("small", "small-only")}
    assert all(stage["same"] for stage in found["stages"]) and not found["equal"]


def test_a_value_and_the_stages_that_it_changes() -> None:
    found = pair("a.yaml", write("b.yaml", "training: {learning_rate: 0.01}\nevaluation: {limit: 5}"))
    assert values(found) == {"training.learning_rate": (0.0003, 0.01), "evaluation.limit": (None, 5)}
    assert found["inputs"] == [] and not found["equal"]
    by_id = stages(found)
    assert {id for id, stage in by_id.items() if stage["same"]} == {
        "tokenizer", "teacher", "data", "teacher-train", "student", "signals-encoder", "convert-teacher-train",
        "benchmark-teacher",
    }  # fmt: skip
    assert [change["path"] for change in by_id["train"]["changed"]] == ["training.learning_rate"]
    assert by_id["train"]["upstream"] == []
    benchmark = by_id["benchmark-student"]
    assert (benchmark["changed"], benchmark["upstream"]) == ([], ["train", "convert-train"])
    assert [change["path"] for change in by_id["evaluate-student"]["changed"]] == ["evaluation.limit"]
    assert by_id["evaluate-student"]["upstream"] == ["train", "convert-train"]


def test_stages_that_only_one_has() -> None:
    found = pair("a.yaml", write("b.yaml", "evaluation: {speed: null}\nstopping: {retention: {rouge2: 90}}\nvalidation: {metrics: [loss, rouge2]}"))
    by_id = stages(found)
    assert by_id["benchmark-student"]["b"] is None and by_id["benchmark-student"]["same"] is False
    assert by_id["evaluate-teacher-validation"]["a"] is None
    needed = {change["path"]: change["b"] for change in by_id["train"]["changed"]}
    assert needed["needs.reference"] == "evaluate-teacher-validation" and by_id["train"]["upstream"] == []


def test_data_are_compared_by_what_they_are() -> None:
    shutil.copy("a.jsonl", "same.jsonl")
    found = pair("a.yaml", write("b.yaml", "data: {train: {files: same.jsonl}}"))
    assert found["equal"]
    Path("other.jsonl").write_text('{"source": "c", "target": "d"}\n', "utf-8")
    found = pair("a.yaml", write("b.yaml", "data: {train: {files: other.jsonl}}"))
    assert [change["path"] for change in found["inputs"]] == ["data.train[0].fingerprints[0]"]
    assert stages(found)["data"]["same"] is False and found["values"] == []


def test_a_reason_that_is_in_no_spec() -> None:
    Path("site.yaml").write_text("devices: {per_node: 1}\n", "utf-8")
    assert run("compile", "a.yaml", "-o", "p").exit_code == 0
    file = Path("p/small/plan.json")
    plan = json.loads(file.read_text("utf-8"))
    for stage in plan["stages"]:
        if stage["kind"] == "benchmark":
            stage["settings"]["device"] = "a card"
            stage["key"] = "f" * 64
    file.write_text(json.dumps(plan), "utf-8")
    output = run("diff", "p/small", "a.yaml").stdout
    assert "device of benchmark-student: 'a card' | " in output


def test_what_is_not_known_here_cannot_be_told() -> None:
    one = write("b.yaml", "data: {test: {hub: org/rows}}")
    found = pair(one, one)
    assert stages(found)["data"]["same"] is None and stages(found)["tokenizer"]["same"] is True
    assert "an input cannot be found here" in run("diff", one, write("c.yaml", "data: {test: {hub: org/rows}}\nseeds: [1]")).stdout


# --- what A and B can be ---------------------------------------------------------------------------


def finished(name: str, rouge2: float, **changes: Any) -> Path:
    """The folder of a run that is done, as the runtime leaves it."""
    assert run("compile", f"{name}.yaml", "-o", "compiled").exit_code == 0
    (plan,) = Path("compiled").iterdir()
    key = json.loads((plan / "plan.json").read_text("utf-8"))["key"]
    target = Path(".distilc/runs") / f"{plan.name}-{key[:8]}"
    shutil.copytree(plan, target)
    shutil.rmtree("compiled")
    score = {"rouge2": {"value": rouge2}}
    summary = {
        "test_sets": {"test": {"teacher": {"rouge2": {"value": 20.0}}, "student": score, "retention": {"rouge2": 5 * rouge2}}},
        "speedup": 1.5,
        "parameters": {"teacher": 4_000_000, "student": 3_000_000},
        "training": {"steps": 120, "best": 18.5, "monitor": "rouge2"},
        **changes,
    }  # fmt: skip
    (target / "summary.json").write_text(json.dumps(summary), "utf-8")
    return target


def test_finished_runs_by_name_and_by_folder() -> None:
    one = finished("a", 18.0)
    write("b.yaml", "name: other\ntraining: {dropout: 0.2}")
    finished("b", 19.5, speedup=None)
    found = pair("small", "other")
    results = {result["name"]: (result["a"], result["b"], result["difference"]) for result in found["results"]}
    assert results == {
        "student rouge2": (18.0, 19.5, 1.5),
        "teacher rouge2": (20.0, 20.0, 0.0),
        "retention rouge2": (90.0, 97.5, 7.5),
        "speed-up": (1.5, None, None),
        "student parameters": (3_000_000, 3_000_000, 0),
        "teacher parameters": (4_000_000, 4_000_000, 0),
        "training steps": (120, 120, 0),
        "best validation rouge2": (18.5, 18.5, 0.0),
    }
    assert pair(one.name, "other") == pair(str(one), "other") == found
    text = run("diff", "small", "other").stdout
    assert "student rouge2" in text and "+1.50" in text and "training.dropout" in text
    assert "results: only of A" in run("diff", "small", "b.yaml").stdout


def test_several_runs_of_one_name_must_be_told_apart() -> None:
    first = finished("a", 18.0)
    shutil.rmtree(".distilc/plans", ignore_errors=True)
    Path("a.yaml").write_text(BASE + "seeds: [7]\n", "utf-8")
    second = finished("a", 19.0)
    result = run("diff", "small", "a.yaml")
    assert result.exit_code == 1 and "E564" in result.output
    assert first.name in result.output and second.name in result.output
    assert values(pair(first.name, second.name)) == {"seeds[0]": (42, 7)}


def test_a_plan_and_its_spec_are_equal() -> None:
    assert run("compile", "a.yaml").exit_code == 0
    for plan in (".distilc/plans/small", ".distilc/plans/small/plan.json", ".distilc/plans", "small"):
        assert pair(plan, "a.yaml")["equal"], plan


def test_a_folder_of_plans_and_a_spec_of_several_runs() -> None:
    write("s.yaml", SWEEP.format("x", 1).removeprefix("extends: a.yaml\n"))
    assert run("compile", "s.yaml", "-o", "plans").exit_code == 0
    write("t.yaml", SWEEP.format("x", 2).removeprefix("extends: a.yaml\n"))
    found = diff("plans", "t.yaml")
    assert [(one["a"]["name"], one["b"]["name"]) for one in found["pairs"]] == [("x-kd", "x-kd"), ("x-sft", "x-sft")]
    assert [one["equal"] for one in found["pairs"]] == [False, True] and not found["equal"]
    assert values(found["pairs"][0]) == {"loss.logits.weight": (1, 2)}
    assert values(pair("plans#kd", "t.yaml#kd")) == {"loss.logits.weight": (1, 2)}


def test_two_variants_of_one_spec() -> None:
    write("s.yaml", SWEEP.format("x", 1).removeprefix("extends: a.yaml\n"))
    found = pair("s.yaml#sft", "s.yaml#kd")
    assert set(values(found)) == {"name", "loss.labels", "loss.logits"}
    changed = {change["path"] for change in stages(found)["train"]["changed"]}
    assert changed == {"loss.labels", "loss.logits", "needs.teacher"}  # no stage differs that both need
    result = run("diff", "s.yaml#sft", "s.yaml#dk")
    assert result.exit_code == 1 and "E561: no run has the name 'dk'" in result.output


def test_a_file_whose_name_has_the_sign_comes_first() -> None:
    shutil.copy("a.yaml", "a#b.yaml")
    assert pair("a#b.yaml", "a.yaml")["equal"]


# --- pairing ---------------------------------------------------------------------------------------


def subject(name: str, label: str | None = None) -> Subject:
    return Subject(name, label, {}, None, None)


@pytest.mark.parametrize(
    ("a", "b", "pairs", "only_a", "only_b"),
    [
        (["x-sft", "x-kd"], ["x-kd", "x-pl"], [("x-kd", "x-kd")], ["x-sft"], ["x-pl"]),
        (["x-sft", "x-kd"], ["y-kd", "y-sft"], [("x-sft", "y-sft"), ("x-kd", "y-kd")], [], []),
        (["x-sft"], ["y-kd"], [("x-sft", "y-kd")], [], []),
        (["x-sft"], ["y-kd", "y-pl"], [], ["x-sft"], ["y-kd", "y-pl"]),
        (["x-kd", "y-sft"], ["x-sft", "x-kd"], [("x-kd", "x-kd"), ("y-sft", "x-sft")], [], []),
    ],
)
def test_runs_are_paired_by_name_then_by_label(a: Any, b: Any, pairs: Any, only_a: Any, only_b: Any) -> None:
    found = pair_runs(*([subject(name, name.partition("-")[2]) for name in side] for side in (a, b)))
    assert [(one.name, other.name) for one, other in found.pairs] == pairs
    assert [run.name for run in found.only_a] == only_a and [run.name for run in found.only_b] == only_b


def test_runs_without_a_label_are_no_pair() -> None:
    found = pair_runs([subject("x"), subject("y")], [subject("z"), subject("w")])
    assert not found.pairs and len(found.only_a) == len(found.only_b) == 2


def test_runs_that_are_alone_are_listed() -> None:
    write("s.yaml", SWEEP.format("x", 1).removeprefix("extends: a.yaml\n"))
    write("t.yaml", "name: x\nvariants: {sft: {}, pl: {pseudo_labels: {own: {by: teacher}}, targets: [own]}}")
    found = diff("s.yaml", "t.yaml")
    assert (found["only_a"], found["only_b"], found["equal"]) == (["x-kd"], ["x-pl"], False)
    text = run("diff", "s.yaml", "t.yaml").stdout
    assert "x-sft: the same (" in text and "only in A:\n  x-kd\n" in text and "only in B:\n  x-pl\n" in text


# --- exit codes, mistakes --------------------------------------------------------------------------


def test_exit_codes() -> None:
    other = write("b.yaml", "training: {dropout: 0.2}")
    assert run("diff", "a.yaml", other).exit_code == 0
    assert run("diff", "--exit-code", "a.yaml", other).exit_code == 1
    assert run("diff", "--exit-code", "a.yaml", "a.yaml").exit_code == 0
    assert run("diff", "a.yaml").exit_code == 2


@pytest.mark.parametrize(
    ("word", "code"),
    [("gone", "E563"), ("gone.yaml", "E563"), ("a/b", "E563"), ("", "E563"), ("#x", "E563"), ("a.yaml#x", "E561"),
     ("empty", "E562"), ("broken.json", "E562"), ("old.json", "E562")],
)  # fmt: skip
def test_mistakes_are_diagnoses(word: str, code: str) -> None:
    Path("empty").mkdir()
    Path("broken.json").write_text("{", "utf-8")
    Path("old.json").write_text('{"format": 0}', "utf-8")
    result = run("diff", word, "a.yaml")
    assert result.exit_code == 1 and f"{code}: " in result.output and not result.stdout


def test_a_wrong_spec_is_a_diagnosis_and_nothing_is_compared() -> None:
    result = run("diff", "a.yaml", write("b.yaml", "batch: 3"))
    assert result.exit_code == 1 and "b.yaml:2:8: E203" in result.output and not result.stdout


def test_specs_of_models_that_are_not_here_are_compared_as_far_as_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(Path.cwd() / "hub"))
    text = "extends: a.yaml\nteacher: {hub: org/model}\nstudent: {decoder_layers: 2}\ntraining: {dropout: "
    for name, dropout in (("b.yaml", 0.1), ("c.yaml", 0.2)):
        Path(name).write_text(f"{text}{dropout}}}\n", "utf-8")
    result = run("diff", "b.yaml", "c.yaml")
    assert result.exit_code == 1 and "E501" in result.output
    assert "training.dropout   0.1 | 0.2" in result.stdout and "stages: not known" in result.stdout


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys\nfrom distilc.compiler.cli import distilc\n"
        "try: distilc.main(['diff', 'a.yaml', 'a.yaml', '--offline'])\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'deepspeed', 'mlflow') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert result.stdout.endswith("stages shared)\n[]\n"), result.stderr


@pytest.mark.parametrize("damage", [
    lambda plan: plan["stages"].append(1), lambda plan: plan["stages"][0].pop("kind"),
    lambda plan: plan["stages"][0].update(needs={"a": ["b"]}), lambda plan: plan.update(name=1),
    lambda plan: plan.update(stages=[[]]), lambda plan: plan.update(spec=float("nan")),
])  # fmt: skip
def test_a_damaged_plan_is_diagnosed(damage: Any) -> None:
    assert run("compile", "a.yaml", "-o", "p").exit_code == 0
    file = Path("p/small/plan.json")
    plan = json.loads(file.read_text("utf-8"))
    damage(plan)
    file.write_text(json.dumps(plan), "utf-8")
    result = run("diff", "p/small", "a.yaml")
    assert result.exit_code == 1 and "E562: p/small/plan.json is damaged" in result.output


@pytest.mark.parametrize("damage", [
    lambda spec: spec.update(name=True), lambda spec: spec.pop("name"), lambda spec: spec.update(teacher="./x"),
    lambda spec: spec["student"]["init"]["decoder"].update({"from": "x"}), lambda spec: spec.clear(),
])  # fmt: skip
def test_a_plan_whose_record_of_the_spec_is_damaged_is_compared_all_the_same(damage: Any) -> None:
    assert run("compile", "a.yaml", "-o", "p").exit_code == 0
    file = Path("p/small/plan.json")
    plan = json.loads(file.read_text("utf-8"))
    damage(plan["spec"])
    file.write_text(json.dumps(plan), "utf-8")
    assert run("diff", "p/small", "a.yaml").exit_code == 0


def test_a_plan_nested_without_end_is_diagnosed() -> None:
    Path("p").mkdir()
    Path("p/plan.json").write_text("[" * 200_000)
    result = run("diff", "p", "a.yaml")
    assert result.exit_code == 1 and "E562" in result.output
