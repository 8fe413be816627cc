"""The typed run, and that schema and dataclasses say the same in both directions."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from distilc.compiler.pipeline import compile_spec
from distilc.compiler.resolve.site import Site, SiteOptions, load_site
from distilc.compiler.spec import experiment as typed
from distilc.compiler.spec.bind import bind, bind_experiment
from distilc.compiler.spec.compiled import Compiled
from distilc.compiler.spec.experiment import Experiment
from distilc.compiler.spec.normalise import normalise
from distilc.compiler.spec.structure import load_schema, with_defaults
from distilc.compiler.tasks.task import TASKS, TaskName

ROOT = Path(__file__).parents[2]
SCHEMA = load_schema("experiment")
GOOD = """\
version: 1
name: x
task: summarization
teacher: facebook/bart-large-xsum
student: {decoder_layers: 3}
data: {train: {files: a.json}, validation: {files: b.json}, test: {files: c.json}}
"""

# What a class's fields are called in the schema, and keys of the schema that this class leaves to another.
SAME: dict[str, tuple[type, str, set[str]]] = {
    "architecture": (typed.Architecture, "architecture", set()),
    "tokenizer": (typed.TokenizerTraining, "tokenizer", set()),
    "generation": (typed.Generation, "generation", set()),
    "batch": (typed.Batch, "batch", set()),
    "training": (typed.Optimization, "training", set()),
    "optimizer": (typed.Optimizer, "training.optimizer", set()),
    "warmup": (typed.Warmup, "training.warmup", set()),
    "stopping": (typed.Stopping, "stopping", set()),
    "validation": (typed.Validation, "validation", set()),
    "every": (typed.Every, "validation.every", set()),
    "source": (typed.DataSource, "source", set()),
    "columns": (typed.Columns, "data.columns", {"text", "premise", "label"}),
    "data": (typed.Data, "data", set()),
    "masking": (typed.Masking, "data.masking", set()),
    "hidden": (typed.HiddenTerm, "loss.hidden", set()),
    "attention": (typed.AttentionTerm, "loss.attention", set()),
    "evaluation": (typed.Evaluation, "evaluation", set()),
    "speed": (typed.Speed, "evaluation.speed", set()),
    "rouge": (typed.Rouge, "evaluation.rouge", set()),
    "bleu": (typed.Bleu, "evaluation.bleu", set()),
    "tracking": (typed.Tracking, "tracking", set()),
    "student": (typed.Student, "student", set()),
    "init": (typed.StudentInit, "student.init", set()),
}


def keys_of(place: str) -> set[str]:
    first, *rest = place.split(".")
    fragment: Any = SCHEMA.resolve({"$ref": f"#/$defs/{first}"})
    for step in rest:
        fragment = SCHEMA.choose(fragment["properties"][step], "object")
    return set(fragment["properties"])


@pytest.mark.parametrize("name", SAME)
def test_schema_and_dataclass_have_the_same_names(name: str) -> None:
    kind, place, elsewhere = SAME[name]
    assert {field.name for field in fields(kind)} == keys_of(place) - elsewhere


def test_the_remaining_classes() -> None:
    def names(kind: type) -> set[str]:
        return {field.name for field in fields(kind)}

    model = set(SCHEMA.choose({"$ref": "#/$defs/model"}, "object", ["hub"])["properties"])  # type: ignore[index]
    assert names(typed.ModelReference) == model
    teacher = set(SCHEMA.choose({"$ref": "#/$defs/teacher"}, "object", ["hub"])["properties"])  # type: ignore[index]
    assert names(typed.Teacher) - {"reference"} == teacher - model
    train = SCHEMA.choose({"$ref": "#/$defs/teacher"}, "object", ["hub"])["properties"]["train"]  # type: ignore[index]
    assert set(train["properties"]) == {"training", "batch", "precision", "stopping", "validation", "loss"}
    origin = SCHEMA.choose({"$ref": "#/$defs/origin"}, "object", ["from"])
    assert origin is not None
    assert {name.rstrip("_") for name in names(typed.LayerOrigin)} == set(origin["properties"])
    labels = SCHEMA.choose(SCHEMA.resolve({"$ref": "#/$defs/loss"})["properties"]["labels"], "object", ["weight"])
    assert labels is not None and names(typed.LabelsTerm) == set(labels["properties"])
    terms = set(SCHEMA.resolve({"$ref": "#/$defs/loss"})["properties"])
    assert names(typed.Loss) == {*terms, "own", "schedules"}  # `own`: the terms of installed packages
    logits = SCHEMA.choose(SCHEMA.resolve({"$ref": "#/$defs/loss"})["properties"]["logits"], "object", ["weight"])
    assert logits is not None and names(typed.LogitsTerm) == set(logits["properties"])
    labeller = SCHEMA.resolve({"$ref": "#/$defs/labeller"})["properties"]
    rules = {"min_rouge2", "min_bleu", "min_length_ratio", "max_length_ratio", "max_repetition"}
    flat = {"by", "file", "file_id", "file_text", "generation", "max_source_tokens", "prefix", "best_of", *rules}
    assert names(typed.Labeller) == flat
    assert set(labeller) == {"by", "file", "columns", "generation", "max_source_tokens", "prefix", "best_of", "keep"}
    assert set(labeller["columns"]["properties"]) == {"id", "text"}
    keep = labeller["keep"]["properties"]
    assert set(keep) == {"min_rouge2", "min_bleu", "length_ratio", "max_repetition"}
    assert set(keep["length_ratio"]["properties"]) == {"min", "max"}
    baseline = SCHEMA.resolve({"$ref": "#/$defs/baseline"})["properties"]
    known = {"million_parameters", "examples_per_second"}
    assert names(typed.Baseline) == {"predictions", "by_test_set", "id", "text", *known}
    assert set(baseline) == {"predictions", "columns", *known} and set(baseline["columns"]["properties"]) == {"id", "text"}
    top = {"name", "task", "teacher", "student", "data", "evaluation", "tracking", "pseudo_labels", "targets", "expect"}
    top |= {"baselines", "stages"}
    inside = {"variant", "seed", "phi_encoder", "phi_decoder", "training", "earlier_phases", "target_shares"}
    assert names(Experiment) - top == inside
    of_a_spec = {"version", "extends", "phi", "seeds", "variants", "matrix"}
    inside_training = {"batch", "precision", "training", "stopping", "validation", "loss"}
    assert keys_of("phase") == names(typed.Optimization) | inside_training - {"training", "precision"}
    assert set(SCHEMA.root["properties"]) - top - inside_training == of_a_spec


def test_choices_are_the_same() -> None:
    def enum(place: str) -> set[str]:
        first, *rest = place.split(".")
        fragment: Any = SCHEMA.resolve(SCHEMA.root["properties"][first])
        for step in rest:
            fragment = SCHEMA.resolve(SCHEMA.choose(fragment, "object")["properties"][step])  # type: ignore[index]
        if "enum" not in fragment:  # a word is one way to write it
            fragment = SCHEMA.choose(fragment, "string")
        return set(fragment["enum"])

    hints = {
        "task": TaskName, "training.schedule": "linear cosine constant inverse-sqrt",
        "training.optimizer.name": "adamw adafactor", "precision": "auto fp32 bf16 fp16",
        "student.init.embeddings": "teacher random",
    }  # fmt: skip
    for place, known in hints.items():
        assert enum(place) == set(known.split() if isinstance(known, str) else get_args(known)), place
    assert set(TASKS) == enum("task")
    strategy = SCHEMA.choose({"$ref": "#/$defs/origin"}, "object", ["from"])["properties"]["layers"]  # type: ignore[index]
    assert set(SCHEMA.choose(strategy, "string")["enum"]) == set(get_args(typed.Strategy))  # type: ignore[index]


def site() -> Site:
    loaded = load_site(SiteOptions(offline=True)).site
    assert loaded is not None
    return loaded


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISTILC_SITE", raising=False)


def compiled(text: str, *overrides: str) -> Compiled:
    Path("spec.yaml").write_text(text, "utf-8")
    return compile_spec(Path("spec.yaml"), overrides, site())


def bound(text: str, *overrides: str) -> Experiment:
    spec = compiled(text, *overrides)
    assert not spec.failed, spec.diagnostics
    return spec.runs[0].experiment


def test_defaults() -> None:
    run = bound(GOOD)
    assert run.training.optimization == typed.Optimization(
        learning_rate=3e-4,
        schedule="linear",
        warmup=None,
        optimizer=typed.Optimizer(name="adamw", betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0),
        gradient_clipping=1.0,
        dropout=None,
    )
    assert run.training.stopping == typed.Stopping(
        max_epochs=5.0, max_steps=None, max_hours=None, patience=None, monitor="loss", min_delta=0.0, retention=None
    )
    assert run.training.batch == typed.Batch(examples=64, tokens=None)
    assert run.training.precision == "auto"
    assert run.training.validation.every == typed.Every(epochs=0.25, steps=None)
    assert run.training.validation.metrics == ("loss",)
    assert run.training.loss.labels == typed.LabelsTerm(weight=1.0, smoothing=0.0)
    assert not run.training.loss.needs_teacher
    assert run.evaluation.metrics == ("rouge1", "rouge2", "rougeLsum")
    assert run.evaluation.speed == typed.Speed(batch_size=32, repeats=3, examples=128)
    assert run.student.init == typed.StudentInit(
        embeddings="teacher",
        encoder=typed.LayerOrigin(from_=None, layers="spaced"),
        decoder=typed.LayerOrigin(from_=None, layers="spaced"),
        fold_token_types=None,
    )
    assert (run.student.freeze, run.phi_encoder, run.phi_decoder) == ("auto", "block-ends", "block-ends")
    assert run.data.columns == typed.Columns(source="source", hypothesis=None, target="target", id=None)
    assert (run.seed, run.teacher.seed, run.tracking.experiment) == (42, 42, "x")
    assert run.teacher.reference is not None and run.teacher.reference.hub == "facebook/bart-large-xsum"
    assert isinstance(run.training.stopping.max_epochs, float)


def test_what_depends_on_the_task() -> None:
    run = bound(GOOD, "task=translation")
    assert run.evaluation.metrics == ("bleu", "chrf")
    assert bound(GOOD, "validation.metrics=[loss, rouge2]").training.stopping.monitor == "rouge2"
    run = bound(GOOD, "task=translation", "validation.metrics=[bleu]")
    assert run.training.stopping.monitor == "bleu"
    run = bound(GOOD, "task=translation", "validation.metrics=[bleu, loss]", "stopping.monitor=loss")
    assert run.training.stopping.monitor == "loss"


def test_every_section_reaches_its_field() -> None:
    run = bound(
        GOOD,
        "teacher={architecture: {family: t5, encoder_layers: 2, decoder_layers: 4, d_model: 64, heads: 4, ffn_dim: 9},"
        " tokenizer: {kind: unigram, vocab_size: 500}, seed: 3, train: {batch: {tokens: 7}, loss: {labels: {smoothing: 0.1}}}}",
        "student={encoder_layers: 1, heads: 2, init: {encoder: random, decoder: {from: ./m, layers: [0, 0]}}, freeze: [positions]}",
        "phi={decoder: [1, 3]}",
        "batch={tokens: 100}",
        "training={warmup: {ratio: 0.1}, dropout: 0.2, gradient_clipping: null}",
        "stopping={max_epochs: null, max_steps: 9, retention: {rouge2: 99}}",
        "validation={every: {steps: 4}, metrics: [rouge2], generation: {beams: 2}, limit: 5}",
        "evaluation={speed: null, teacher_generation: {length_penalty: 1}}",
        "data.test={a: {hub: x/y, config: '3', split: s, limit: 2}, b: [{builtin: bulletins}]}",
        "tracking={experiment: e, tags: {k: v}}",
        "seeds=[7]",
    )  # fmt: skip
    teacher = run.teacher
    assert teacher.reference is None and teacher.architecture is not None and teacher.train is not None
    assert (teacher.architecture.family, teacher.architecture.max_positions, teacher.seed) == ("t5", 512, 3)
    assert teacher.tokenizer == typed.TokenizerTraining(kind="unigram", vocab_size=500)
    assert teacher.train.batch.tokens == 7 and teacher.train.loss.labels.smoothing == 0.1
    assert teacher.train.stopping.max_epochs == 5.0
    student = run.student
    assert (student.encoder_layers, student.decoder_layers, student.heads, student.freeze) == (1, 3, 2, ("positions",))
    assert student.init.encoder == "random" and isinstance(student.init.decoder, typed.LayerOrigin)
    assert student.init.decoder.from_ is not None and student.init.decoder.from_.path == str(Path.cwd() / "m")
    assert (student.init.decoder.layers, run.phi_decoder) == ((0, 0), (1, 3))
    part = run.training
    assert (part.batch.tokens, part.optimization.warmup.ratio, part.optimization.dropout) == (100, 0.1, 0.2)
    assert part.optimization.gradient_clipping is None
    assert (part.stopping.max_epochs, part.stopping.max_steps, part.stopping.retention) == (None, 9, {"rouge2": 99.0})
    assert (part.stopping.monitor, part.validation.every.steps, part.validation.limit) == ("rouge2", 4, 5)
    assert part.validation.generation.beams == 2
    assert run.evaluation.speed is None and run.evaluation.teacher_generation.length_penalty == 1.0
    assert run.data.test["a"][0].hub == "x/y" and run.data.test["a"][0].limit == 2
    assert run.data.test["b"][0].builtin == "bulletins"
    assert (run.tracking.tags, run.seed) == ({"k": "v"}, 7)


def test_whole_numbers_may_be_written_with_a_point() -> None:
    assert bound(GOOD, "stopping.patience=4.0", "batch.examples=6.4e1").training.batch == typed.Batch(
        examples=64, tokens=None
    )


def test_binding_is_strict() -> None:
    with pytest.raises(TypeError, match="Speed has"):
        bind(typed.Speed, {"batch_size": 1, "repeats": 1})
    with pytest.raises(TypeError, match="is no"):
        bind(typed.Speed, {"batch_size": 1.5, "repeats": 1, "examples": 1})


def test_a_normalised_tree_is_normalised() -> None:
    (run,) = compiled(GOOD, "loss={logits: {divergence: jsd}}", "pseudo_labels={own: {file: a.jsonl}}").runs
    tree = normalise(run.tree, SCHEMA)
    assert tree["loss"]["logits"]["beta"] == 0.5 and "alpha" not in tree["loss"]["logits"]
    assert tree["pseudo_labels"]["own"]["columns"] == {"id": "id", "text": "text"}
    assert "positions" not in tree["loss"]["logits"] and "masking" not in tree["data"]
    assert "beta" not in run.tree["loss"]["logits"]
    assert normalise(tree, SCHEMA) == tree and bind_experiment(tree) == run.experiment


def test_defaults_of_a_task() -> None:
    tree = with_defaults(SCHEMA, SCHEMA.root, {"loss": {"logits": {}}, "data": {}}, task="masked-lm")
    assert tree["loss"]["logits"]["positions"] == "all"
    assert tree["data"]["masking"] == {"share": 15, "masked": 80, "random": 10, "rare": 0.7}


def test_the_run_is_frozen_and_hides_no_unknown() -> None:
    tree = with_defaults(SCHEMA, SCHEMA.root, {})
    with pytest.raises(KeyError):
        normalise(tree, SCHEMA)
    with pytest.raises(AttributeError):
        bound(GOOD).name = "y"  # type: ignore[misc]
