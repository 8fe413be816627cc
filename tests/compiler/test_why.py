"""`explain --why STAGE`: the inputs that made a stage new, named as the spec names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from distilc.compiler.cli import distilc
from distilc.compiler.diagnostics.diagnostic import Places, Reporter
from distilc.compiler.explain.why import Why, explain_why, why_json, why_text
from distilc.compiler.plan.keys import STAGE_FORMATS

DAY = 86400.0
FIRST = 20_000.5 * DAY  # noon: the same day nearly everywhere


def store(plan: Any, workspace: Path, *ids: str, created: float = FIRST, recorded: bool = True) -> None:
    """Put the artifacts of these stages into the store, as the runtime would."""
    for id, stage in plan.stages.items():
        if ids and id not in ids:
            continue
        manifest = {"format": 1, "kind": stage.kind, "stage": id, "created": created, "key": stage.key}
        if recorded:
            manifest |= {"settings": stage.settings, "needs": stage.needs}
        folder = workspace / "store" / stage.key
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")


def why(plan: Any, stage: str) -> Why:
    reporter = Reporter(Places())
    (found,) = explain_why([plan], stage, reporter)
    assert not reporter.failed
    return found


def lines(plan: Any, stage: str) -> list[str]:
    return why_text(why(plan, stage)).rstrip("\n").split("\n")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


def test_what_is_there_and_when_nothing_of_its_kind_is(compile_text: Any, workspace: Path) -> None:
    plan = compile_text().typed
    key = plan.train.key[:8]
    assert lines(plan, "train") == [
        f"small: train ({key}) is not in the store",
        "nothing of its kind (train) is in the store",
    ]
    store(plan, workspace, "train")
    assert lines(plan, "train") == [f"small: train ({key}) is in the store, made 2024-10-04"]


def test_a_setting_is_named_as_the_spec_names_it(compile_text: Any, workspace: Path) -> None:
    old = compile_text("training.learning_rate=0.0003").typed
    store(old, workspace)
    artifact = old.train.key[:8]
    found = lines(compile_text("training.learning_rate=0.001").typed, "train")
    assert found[1:] == [
        f"nearest: train ({artifact}), made 2024-10-04",
        f"  training.learning_rate: 0.001 here, 0.0003 there (artifact {artifact}, 2024-10-04)",
    ]


def test_causes_are_followed_upstream_to_the_leaf(compile_text: Any, workspace: Path) -> None:
    store(compile_text().typed, workspace)
    found = lines(compile_text("data.max_source_tokens=64", "evaluation.limit=5").typed, "evaluate-student")
    # The training needs the data, too: once is enough.
    assert [line.partition(" (artifact")[0] for line in found[2:]] == [
        "  evaluation.limit: 5 here, nothing there",
        "  upstream: data differs:",
        "    data.max_source_tokens: 64 here, 512 there",
    ]


def test_a_chain_without_a_setting_of_its_own(compile_text: Any, workspace: Path) -> None:
    store(compile_text().typed, workspace)
    found = lines(compile_text("training.dropout=0.2").typed, "evaluate-student")
    assert [line.partition(" (artifact")[0] for line in found[2:]] == [
        "  upstream: train differs:",
        "    training.dropout: 0.2 here, nothing there",
    ]


def test_the_nearest_is_the_one_with_the_fewest_causes_then_the_latest(compile_text: Any, workspace: Path) -> None:
    far = compile_text("training.learning_rate=0.1", "training.dropout=0.3", "precision=fp32").typed
    near = compile_text("training.learning_rate=0.2").typed
    later = compile_text("training.learning_rate=0.3").typed
    store(far, workspace, created=FIRST + 9 * DAY)
    store(near, workspace, "train", created=FIRST)
    store(later, workspace, "train", created=FIRST + DAY)
    found = why(compile_text().typed, "train").nearest
    assert found is not None and [change.b for change in found.changed] == [0.3]


def test_an_evaluation_of_the_teacher_is_no_near_one_of_the_student(compile_text: Any, workspace: Path) -> None:
    old = compile_text("training.learning_rate=0.1", "batch={examples: 7}", "evaluation.limit=3").typed
    store(old, workspace)
    found = why(compile_text().typed, "evaluate-student").nearest
    assert found is not None and found.artifact.stage == "evaluate-student"


def test_what_another_kind_of_model_gives(compile_text: Any, workspace: Path) -> None:
    """The student's training is compared with the nearest training there is: the teacher's."""
    plan = compile_text().typed
    store(plan, workspace, "tokenizer", "teacher", "data", "teacher-train")
    found = why(plan, "train").nearest
    assert found is not None and found.artifact.stage == "teacher-train"
    assert "model: student here, teacher there" in found.notes


def test_an_upstream_artifact_that_is_gone(compile_text: Any, workspace: Path) -> None:
    store(compile_text().typed, workspace, "train")
    found = why(compile_text("student.decoder_layers=3").typed, "train").nearest
    assert found is not None and not found.changed
    (note,) = found.notes
    assert note.startswith("model: student differs; the other one (") and note.endswith("is not in the store any more")


def test_manifests_of_earlier_versions_are_counted_and_not_compared(compile_text: Any, workspace: Path) -> None:
    store(compile_text().typed, workspace, "train", recorded=False)
    found = lines(compile_text("training.dropout=0.2").typed, "train")
    assert found[1:] == ["the store has one artifact of its kind (train), without a record of what they were made from"]
    store(compile_text("training.dropout=0.3").typed, workspace)
    plan = compile_text("training.dropout=0.2").typed
    nearest = why(plan, "train").nearest
    assert nearest is not None and [change.key for change in nearest.changed] == ["training.dropout"]


def test_an_input_of_an_artifact_without_a_record(compile_text: Any, workspace: Path) -> None:
    old = compile_text().typed
    store(old, workspace, "train")
    store(old, workspace, "student", recorded=False)
    found = why(compile_text("student.decoder_layers=3").typed, "train").nearest
    assert found is not None and "does not record what it was made from" in found.notes[0]


def test_another_format_of_the_code(compile_text: Any, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(compile_text().typed, workspace)
    monkeypatch.setitem(STAGE_FORMATS, "data", 99)
    plan = compile_text().typed
    found = why(plan, "data").nearest
    assert found is not None and found.num_causes == 1
    assert found.notes == ["nothing but distilc: this stage's code has another format"]
    below = why(plan, "evaluate-student").nearest
    assert below is not None and [one.stage for one in below.upstream] == ["data"] and below.num_causes == 1


def test_damaged_manifests_are_passed_over(compile_text: Any, workspace: Path) -> None:
    store(compile_text("training.dropout=0.3").typed, workspace)
    for i, text in enumerate(("{", "[]", "{}", '{"kind": "train", "stage": "train", "created": "x"}')):
        (workspace / "store" / f"{i:064d}").mkdir()
        (workspace / "store" / f"{i:064d}" / "manifest.json").write_text(text, "utf-8")
    assert why(compile_text("training.dropout=0.2").typed, "train").nearest is not None


def test_a_shared_store_is_looked_into(compile_text: Any, tmp_path: Path) -> None:
    store(compile_text("training.dropout=0.3").typed, tmp_path / "shared")
    plan = compile_text("training.dropout=0.2", shared_stores=(tmp_path / "shared" / "store",)).typed
    assert why(plan, "train").nearest is not None


def test_an_input_that_is_not_known_here(compile_text: Any, workspace: Path) -> None:
    store(compile_text("data.test={hub: org/other}").typed, workspace)
    found = why(compile_text("data.test={hub: org/rows}").typed, "data")
    assert found.key == "unresolved" and found.stored is None
    assert found.nearest is not None and [change.key for change in found.nearest.changed] == ["data.test.test[0].name"]
    same = why(compile_text("data.test={hub: org/other}").typed, "data")
    assert same.nearest is not None and same.nearest.notes == ["an input is not known here"]


def test_json(compile_text: Any, workspace: Path) -> None:
    store(compile_text().typed, workspace)
    plan = compile_text("data.max_source_tokens=64", "training.dropout=0.2").typed
    (run,) = why_json([why(plan, "train")])["runs"]
    assert (run["name"], run["stage"], run["kind"], run["stored"]) == ("small", "train", "train", False)
    assert run["nearest"]["stage"] == "train" and len(run["nearest"]["key"]) == 64
    told = {(found["stage"], found["path"], found["here"], found["there"]) for found in run["differences"]}
    assert told == {("train", "training.dropout", 0.2, None), ("data", "data.max_source_tokens", 64, 512)}
    assert json.loads(json.dumps(run)) == run


def test_runs_that_have_the_stage(compile_text: Any) -> None:
    plans = [compile_text().typed, compile_text("pseudo_labels={own: {by: teacher}}", "targets=[own]").typed]
    reporter = Reporter(Places())
    assert [found.kind for found in explain_why(plans, "labels-own", reporter)] == ["pseudo-labels"]
    assert not reporter.failed
    assert explain_why(plans, "lables-own", reporter) == []
    (told,) = reporter.diagnostics
    assert told.code == "E565" and told.hint.startswith("did you mean labels-own? the stages are tokenizer, ")


def test_the_command(compile_text: Any, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    compile_text()  # writes spec.yaml
    base = ["explain", "spec.yaml", "--workspace", str(workspace), "--offline"]
    result = CliRunner().invoke(distilc, [*base, "--why", "train"])
    assert result.exit_code == 0 and result.output.endswith("nothing of its kind (train) is in the store\n")
    result = CliRunner().invoke(distilc, [*base, "--why", "train", "--json"])
    assert json.loads(result.output)["runs"][0]["nearest"] is None
    result = CliRunner().invoke(distilc, [*base, "--why", "trian"])
    assert result.exit_code == 1 and "E565: there is no stage 'trian'" in result.output
    assert CliRunner().invoke(distilc, [*base, "--why", "train", "--resolved"]).exit_code == 2
