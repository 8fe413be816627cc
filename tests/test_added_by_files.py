"""A loss term, a metric and a stage kind of distilc itself are three files each: the module, its schema fragment, a line
in pyproject.

They are added to a copy of the tree, and a spec that uses them is compiled, trained, verified and scored there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
Run = Callable[..., subprocess.CompletedProcess[str]]

SPEC = """\
version: 1
name: {name}
task: summarization
teacher:
  architecture: {{family: bart, encoder_layers: 2, decoder_layers: 2, d_model: 32, heads: 2, ffn_dim: 64, max_positions: 256}}
  tokenizer: {{kind: bpe, vocab_size: 400}}
  train: {{batch: {{examples: 8}}, stopping: {{max_steps: 1}}, validation: {{limit: 4, metrics: [loss]}}}}
student: {{decoder_layers: 1}}
data:
  train: {{builtin: bulletins, split: train, limit: 32}}
  validation: {{builtin: bulletins, split: validation, limit: 4}}
  test: {{builtin: bulletins, split: test, limit: 4}}
  max_source_tokens: 256
  max_target_tokens: 64
batch: {{examples: 8}}
loss: {loss}
stopping: {{max_steps: 2}}
validation: {{limit: 4, metrics: [loss]}}
evaluation: {{metrics: {metrics}, generation: {{max_length: 12}}, teacher_generation: {{max_length: 12}}, speed: null}}
stages: {stages}
"""
TERM = '''
"""How far the embeddings are from the teacher's, to a power."""

from ..protocol import Term


def _distance(inputs, settings):
    """|student - teacher|^power, a mean over the width, summed over label tokens."""
    difference = inputs.student.decoder_embeddings.float() - inputs.teacher.decoder_embeddings.float()
    return difference.abs().pow(settings["power"]).mean(-1)[inputs.labels != -100].sum()


def _mean(inputs, settings):
    """The same as a mean over label tokens."""
    valid = inputs.labels != -100
    difference = inputs.student.decoder_embeddings[valid] - inputs.teacher.decoder_embeddings[valid]
    return (difference.abs() ** settings["power"]).mean(-1).mean()


DISTANCE = Term(
    sum=_distance, items="label-tokens", needs=frozenset({"embeddings", "teacher"}), reference=_mean, zero_when_equal=True
)
'''
TERM_FRAGMENT = {
    "terms": {
        "distance": {
            "description": "Distance of the embedding outputs, to a power.",
            "tasks": ["summarization", "translation"],
            "needs": ["embeddings", "teacher"],
            "properties": {
                "weight": {"description": "Weight of the term.", "type": "number", "minimum": 0, "default": 1.0},
                "power": {"description": "Of the distance.", "type": "number", "minimum": 1, "default": 2.0},
            },
        }
    }
}
METRIC = '''
"""How long references are."""

from ..protocol import Metric


def _words(names, inputs):
    """The mean number of words of the references."""
    return {"num_words": {"value": sum(len(text.split()) for text in inputs.references) / len(inputs.references)}}


NUM_WORDS = Metric(score=_words, needs="texts", higher_is_better=False)
'''
METRIC_FRAGMENT = {
    "metrics": {
        "num_words": {
            "description": "Words of a reference, their mean.",
            "tasks": ["summarization"],
            "needs": "texts",
            "higher_is_better": False,
        }
    }
}

STAGE = '''
"""How far a layer of a student is from the one of its teacher that it was copied from, and how many rows it saw."""

import json

from ..data.rows import Rows
from ..models.load import load_model, model_folder
from ..protocol import StageKind


def _run(stage, context):
    """drift.json: how far the first decoder layer is from the teacher's, to a power."""
    power = stage.settings.own["power"]
    student, teacher = (load_model(model_folder(context.inputs[who]), precision="fp32") for who in ("student", "teacher"))
    difference = (student.model.decoder.layers[0].fc1.weight - teacher.model.decoder.layers[0].fc1.weight).detach()
    found = {"distance": float(difference.abs().pow(power).sum()), "rows": len(Rows.open(context.inputs["data"], "train"))}
    (context.folder / "drift.json").write_text(json.dumps(found), "utf-8")
    return {**found, "line": f"a distance of {found['distance']:.3g}"}


DRIFT = StageKind(run=_run, parallel=False)
'''
STAGE_FRAGMENT = {
    "stages": {
        "weight-drift": {
            "description": "How far the student's first layer is from the teacher's.",
            "tasks": ["summarization"],
            "needs": ["student", "teacher", "data"],
            "format": 1,
            "files": ["drift.json"],
            "properties": {
                "power": {"description": "Of the differences.", "type": "number", "minimum": 1, "default": 2.0},
            },
        }
    }
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a copy of the tree, to which the files of the term, those of the metric and those of the stage kind were
    added, and nothing else; and a spec with all of them."""
    made = tmp_path_factory.mktemp("added")
    copy = made / "copy" / "distilc"
    for half in ("compiler", "runtime", "schema", "specs"):
        shutil.copytree(ROOT / half, copy / half, ignore=shutil.ignore_patterns("__pycache__"))
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for kind, line in (
        ("terms", 'distance = "distilc.runtime.objective.distance:DISTANCE"'),
        ("metrics", 'num_words = "distilc.runtime.metrics.num_words:NUM_WORDS"'),
        ("stages", 'weight-drift = "distilc.runtime.stages.weight_drift:DRIFT"'),
    ):
        head = f'[project.entry-points."distilc.{kind}"]\n'
        assert project.count(head) == 1
        project = project.replace(head, f"{head}{line}\n")
    (copy / "pyproject.toml").write_text(project, "utf-8")
    for file, text in (
        ("objective/distance.py", TERM),
        ("objective/distance.schema.json", json.dumps(TERM_FRAGMENT)),
        ("metrics/num_words.py", METRIC),
        ("metrics/num_words.schema.json", json.dumps(METRIC_FRAGMENT)),
        ("stages/weight_drift.py", STAGE),
        ("stages/weight_drift.schema.json", json.dumps(STAGE_FRAGMENT)),
    ):
        assert not (copy / "runtime" / file).exists()
        (copy / "runtime" / file).write_text(text, "utf-8")
    loss = "{labels: 1, distance: {weight: 0.5, power: 3}}"
    stages = "{weight-drift: {power: 1}}"
    text = SPEC.format(name="added", loss=loss, metrics="[rouge2, num_words]", stages=stages)
    (made / "spec.yaml").write_text(text, "utf-8")
    return made


@pytest.fixture(scope="module")
def distilc(folder: Path) -> Run:
    """`distilc` of the copy."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ, "PYTHONPATH": str(folder / "copy"), "XDG_CONFIG_HOME": str(folder), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "distilc.compiler", *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)

    return run


@pytest.fixture(scope="module")
def finished(distilc: Run, folder: Path) -> Path:
    """The folder of a run of the spec."""
    result = distilc("run", "spec.yaml", "--in-process")
    assert result.returncode == 0, result.stdout + result.stderr
    (found,) = (folder / ".distilc" / "runs").iterdir()
    return found


def test_a_term_is_three_files(distilc: Run, folder: Path, finished: Path) -> None:
    schema = json.loads(distilc("schema").stdout)
    assert set(schema["$defs"]["loss"]["properties"]["distance"]["anyOf"][1]["properties"]) == {"weight", "power"}
    logged = [json.loads(line)["metrics"] for line in (finished / "metrics.jsonl").read_text("utf-8").splitlines()]
    steps = [found for found in logged if "loss/distance" in found]
    assert len(steps) == 2
    assert steps[1]["loss/distance"] > 0  # the student begins with the teacher's embeddings
    for found in steps:
        assert found["loss/total"] == pytest.approx(found["loss/labels"] + 0.5 * found["loss/distance"])
    proved = distilc("verify", "spec.yaml", "--json")
    assert proved.returncode == 0, proved.stdout + proved.stderr
    (verified,) = json.loads(proved.stdout)["runs"]
    states = {proof["claim"]: proof["state"] for proof in verified["proofs"] if proof["point"] == "h"}
    assert states["the term distance"] == "proved"


def test_what_it_needs_is_kept_of_no_teacher(distilc: Run, folder: Path) -> None:
    """There is room, and reading is faster than anything: only what the term needs stands against it."""
    room = {"scratch": {"path": str(folder / "scratch"), "limit_gb": 100, "read_gb_per_second": 1e6}}
    (folder / "site.yaml").write_text(json.dumps(room), "utf-8")
    told = distilc("explain", "spec.yaml", "--site", "site.yaml")
    assert "the term distance looks at more than states" in told.stdout, told.stdout + told.stderr


def test_a_metric_is_three_files(distilc: Run, folder: Path, finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text("utf-8"))
    assert set(summary["student"]) == {"rouge2", "num_words"} and summary["student"]["num_words"] > 0
    text = (folder / "spec.yaml").read_text("utf-8").replace("num_words", "num_wordz")
    (folder / "other.yaml").write_text(text, "utf-8")
    told = distilc("check", "other.yaml")
    assert told.returncode == 1 and "num_words" in told.stdout + told.stderr


def test_a_stage_kind_is_three_files(distilc: Run, folder: Path, finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text("utf-8"))
    result = summary["results"]["weight-drift"]
    assert result["distance"] > 0 and result["rows"] == 32 and result["line"].startswith("a distance of")
    store = folder / ".distilc" / "store"
    artifact = json.loads((store / summary["stages"]["weight-drift"]["key"] / "drift.json").read_text("utf-8"))
    assert artifact == {"distance": result["distance"], "rows": 32}
    (run,) = json.loads(distilc("explain", "spec.yaml", "--json").stdout)["runs"]
    stage = run["stages"][-1]
    needs = {"student": "train", "teacher": "teacher-train", "data": "data"}
    assert (stage["id"], stage["kind"], stage["needs"], stage["cached"]) == ("weight-drift", "weight-drift", needs, True)
    text = (folder / "spec.yaml").read_text("utf-8")
    (folder / "again.yaml").write_text(text.replace("power: 1}", "power: 3}"), "utf-8")
    why = distilc("explain", "again.yaml", "--why", "weight-drift")
    assert "stages.weight-drift.power: 3 here, 1 there" in why.stdout, why.stdout + why.stderr


def test_what_is_wrong_with_a_stage_of_a_spec_is_told(distilc: Run, folder: Path) -> None:
    text = (folder / "spec.yaml").read_text("utf-8")
    wrong = {
        "{weight-drfit: {}}": ("E201", "did you mean `weight-drift`?"),
        "{weight-drift: {powr: 1}}": ("E201", "did you mean `power`?"),
        "{weight-drift: {power: much}}": ("E203", "`stages.weight-drift.power` must be a number"),
        "{weight-drift: {power: 0}}": ("E2", "1"),
        "[weight-drift]": ("E203", "`stages` must be a mapping"),
        "{train: {}}": ("E201", "unknown key 'train' in `stages`"),
    }
    for written, (code, message) in wrong.items():
        (folder / "other.yaml").write_text(text.replace("{weight-drift: {power: 1}}", written), "utf-8")
        told = distilc("check", "other.yaml")
        assert told.returncode == 1 and code in told.stdout + told.stderr, told.stdout + told.stderr
        assert message in told.stdout + told.stderr, told.stdout + told.stderr
        assert f"other.yaml:{text[: text.index('stages:')].count(chr(10)) + 1}:" in told.stdout + told.stderr
    (folder / "other.yaml").write_text(text.replace("task: summarization", "task: translation"), "utf-8")
    told = distilc("check", "other.yaml")
    assert "the stage weight-drift does not fit the task translation" in told.stdout + told.stderr
