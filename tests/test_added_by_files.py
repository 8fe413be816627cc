"""A loss term and a metric of distilc itself are three files: the module, its schema fragment, a line in pyproject.

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a copy of the tree, to which the files of the term and those of the metric were added, and nothing else; and
    a spec with both."""
    made = tmp_path_factory.mktemp("added")
    copy = made / "copy" / "distilc"
    for half in ("compiler", "runtime", "schema", "specs"):
        shutil.copytree(ROOT / half, copy / half, ignore=shutil.ignore_patterns("__pycache__"))
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for kind, line in (
        ("terms", 'distance = "distilc.runtime.objective.distance:DISTANCE"'),
        ("metrics", 'num_words = "distilc.runtime.metrics.num_words:NUM_WORDS"'),
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
    ):
        assert not (copy / "runtime" / file).exists()
        (copy / "runtime" / file).write_text(text, "utf-8")
    loss = "{labels: 1, distance: {weight: 0.5, power: 3}}"
    (made / "spec.yaml").write_text(SPEC.format(name="added", loss=loss, metrics="[rouge2, num_words]"), "utf-8")
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
