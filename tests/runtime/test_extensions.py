"""Terms, metrics and families by name: ours, and those of an installed package, held to what a plan names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distilc.compiler.extensions import package_content as compiled_content
from distilc.compiler.extensions.built_in import built_in
from distilc.compiler.extensions.terms import KEPT as KEPT_BY_PLANS
from distilc.runtime import available, extensions
from distilc.runtime.available import check_available
from distilc.runtime.execution.worker import STAGE_KINDS
from distilc.runtime.extensions import declared_facts, entries, require, survey
from distilc.runtime.failure import Failure
from distilc.runtime.files import package_content
from distilc.runtime.metrics.score import METRICS, score, score_loss
from distilc.runtime.models import build, families
from distilc.runtime.models.families import FAMILIES
from distilc.runtime.models.load import load_model
from distilc.runtime.objective import assembly
from distilc.runtime.objective.assembly import TERMS, assemble
from distilc.runtime.objective.objective import Objective, factors_of
from distilc.runtime.objective.terms import labels_term
from distilc.runtime.plan.load import load_plan
from distilc.runtime.plan.settings import KINDS, ExtensionRecord, LabelsTerm, ObjectiveSettings
from distilc.runtime.protocol import Metric, ModelOutputs, StageKind, TermInputs
from distilc.runtime.signals.layout import KEPT
from distilc.runtime.training.stopping import is_better

ROOT = Path(__file__).parents[2]
SAMPLE = Path(__file__).with_name("sample_plan.json")
OFF: Any = dict.fromkeys(("labels", "logits", "hidden", "attention", "cosine", "embedding", "phi"))
MODULE = """
import torch
from distilc.runtime.protocol import Metric, Term

def total(inputs, settings):
    return inputs.student.logits.float().sum()

def each(inputs, settings):
    return inputs.student.logits.float()

def fails(inputs, settings):
    raise ZeroDivisionError("no items")

TERM = Term(sum=total, items="examples", needs=frozenset({"logits"}))
SOURCES = Term(sum=total, items="source-tokens", needs=frozenset({"logits"}))
EACH = Term(sum=each, items="examples", needs=frozenset({"logits"}))
FAILS = Term(sum=fails, items="examples", needs=frozenset({"logits"}))
DEEP = Term(sum=total, items="examples", needs=frozenset({"teacher", "hidden"}))
NAN = Metric(score=lambda names, inputs: {name: {"value": float("nan")} for name in names}, needs="texts")
PERPLEXITY = Metric(
    score=lambda names, inputs: {"perplexity": {"value": 2.718281828459045 ** inputs.loss}}, needs="loss",
    higher_is_better=False,
)
"""


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """`install(folder)`: the packages in the folder are installed while the test runs."""
    modules = set(sys.modules)

    def look_again() -> None:
        extensions.entries.cache_clear()
        extensions._distributions.cache_clear()
        for registry in (TERMS, METRICS, FAMILIES):
            registry._loaded.clear()
        for name in set(sys.modules) - modules:
            if name.partition(".")[0] in ("distilc_focal", "ext", "broken_ext"):
                del sys.modules[name]

    def install(folder: Path) -> None:
        monkeypatch.syspath_prepend(str(folder))
        look_again()

    yield install
    monkeypatch.undo()
    look_again()


def write_package(folder: Path, fragment: Any = None, name: str = "one", module: str = MODULE, **kinds: str) -> Path:
    """A package as pip would leave it; `kinds`: kind -> its entries. Returns the folder."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("".join(f"[distilc.{kind}]\n{lines}\n" for kind, lines in kinds.items()))
    (folder / "ext.py").write_text(module)
    (folder / "ext.schema.json").write_text(json.dumps(fragment or {}))
    return folder


def term_facts(*needs: str) -> dict[str, Any]:
    return {"needs": list(needs or ["logits"])}


def failure(call: Callable[[], Any]) -> Failure:
    with pytest.raises(Failure) as caught:
        call()
    return caught.value


# --- ours --------------------------------------------------------------------------------------------


def test_ours_are_found_through_the_registry() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    for registry, kind in ((TERMS, "terms"), (METRICS, "metrics"), (FAMILIES, "families")):
        assert set(groups[f"distilc.{kind}"]) <= set(registry)
        for name in groups[f"distilc.{kind}"]:
            found = registry[name]
            assert all(isinstance(part, registry.type) for part in (found if isinstance(found, tuple) else (found,)))
            assert registry[name] is registry[name]
    assert all(FAMILIES[name].model_type == name for name in groups["distilc.families"])
    assert "focal" not in TERMS
    with pytest.raises(KeyError):
        TERMS["focal"]


def test_the_fragments_of_ours_say_what_their_objects_do() -> None:
    """What the compiler is told of a term decides whether it is trained from kept states."""
    for name in TERMS:
        facts, found = declared_facts("terms", name), TERMS[name]
        parts = found if isinstance(found, tuple) else (found,)
        assert all(sorted(part.needs) == sorted(facts["needs"]) for part in parts), name
        assert [part.weight for part in parts] == list(facts.get("stacks", {"weight": ""})), name
    for name in METRICS:
        facts = declared_facts("metrics", name)
        assert (facts["needs"], facts["higher_is_better"]) == (METRICS[name].needs, METRICS[name].higher_is_better)
    assert set(built_in("terms")) == set(TERMS)
    assert set(built_in("metrics")) == set(METRICS)


def test_every_stage_kind_of_ours_is_there() -> None:
    assert set(STAGE_KINDS) == set(built_in("stages")) == set(KINDS)
    assert all(isinstance(STAGE_KINDS[kind], StageKind) for kind in STAGE_KINDS)


def test_both_halves_keep_the_same() -> None:
    assert KEPT_BY_PLANS == KEPT


def test_less_of_the_loss_is_better_and_more_of_the_rest() -> None:
    assert is_better("loss", 1.0, 2.0) and not is_better("loss", 2.0, 1.0)
    assert is_better("rouge2", 2.0, 1.0) and not is_better("rouge2", 1.0, 2.0)
    assert score_loss(["loss"], 1.5) == {"loss": {"value": 1.5, "higher_is_better": False}}
    assert "higher_is_better" not in score(["rouge2"], ["a b"], ["a b"])["rouge2"]


@pytest.mark.slow
def test_a_term_of_several_weights_is_several_terms(
    monkeypatch: pytest.MonkeyPatch, tiny_model_folder: Callable[..., Path]
) -> None:
    (labels,) = assemble(ObjectiveSettings(**{**OFF, "labels": LabelsTerm(weight=1.0, smoothing=0.0)}, own={}))
    parts = (
        replace(labels.term, weight="encoder", items="source-tokens"),
        replace(labels.term, weight="decoder"),
    )
    monkeypatch.setattr(TERMS, "_loaded", {"labels": parts})
    settings = ObjectiveSettings(**OFF, own={"labels": {"encoder": 0.5, "decoder": 2.0, "smoothing": 0.0}})
    objective = Objective(load_model(tiny_model_folder("bart", 2, 2)), settings, ())
    assert objective.weights() == {"labels_encoder": 0.5, "labels_decoder": 2.0}
    assert objective.items() == {"labels_encoder": "source-tokens", "labels_decoder": "label-tokens"}
    off = ObjectiveSettings(**OFF, own={"labels": {"encoder": 0.0, "decoder": 2.0, "smoothing": 0.0}})
    assert [active.name for active in assemble(off)] == ["labels_decoder"]


def test_metrics_that_share_a_function_are_computed_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def counted(names: Any, inputs: Any) -> dict[str, Any]:
        calls.append(list(names))
        return {name: {"value": 1.0} for name in names}

    metric = Metric(score=counted, needs="texts")
    monkeypatch.setattr(METRICS, "_loaded", {"rouge1": metric, "rouge2": metric, "bleu": METRICS["bleu"]})
    assert list(score(["rouge2", "bleu", "rouge1"], ["a b c d"], ["a b c d"])) == ["rouge2", "bleu", "rouge1"]
    assert calls == [["rouge2", "rouge1"]]


# --- the example -------------------------------------------------------------------------------------


def test_both_halves_compute_the_same_content_hash(focal_package: Path, install: Callable[[Path], None]) -> None:
    install(focal_package)
    (entry,) = entries("terms")["focal"]
    distribution = next(found for found in metadata.distributions() if found.name == "distilc-focal")
    arguments = (distribution, entry.module, extensions._origin(entry))
    assert package_content.content_hash(*arguments) == compiled_content.content_hash(*arguments)
    source = (ROOT / "runtime" / "files" / "package_content.py").read_text("utf-8").partition("    files = ")[2]
    assert source == (ROOT / "compiler" / "extensions" / "package_content.py").read_text("utf-8").partition("    files = ")[2]


def test_the_focal_term_is_its_formula(focal_package: Path, install: Callable[[Path], None]) -> None:
    install(focal_package)
    active = assemble(ObjectiveSettings(**OFF, own={"focal": {"weight": 0.5, "gamma": 2.0}}))[0]
    assert (active.name, active.weight, active.items) == ("focal", 0.5, "label-tokens")
    logits = torch.sin(torch.arange(30, dtype=torch.float64)).reshape(2, 3, 5)
    labels = torch.tensor([[-100, 2, 3], [4, 0, -100]])
    probabilities = logits.softmax(-1)
    expected = sum(
        -((1 - probabilities[b, t, k]) ** 2) * probabilities[b, t, k].log()
        for b, t, k in ((0, 1, 2), (0, 2, 3), (1, 0, 4), (1, 1, 0))
    )
    assert float(active.sum(inputs_of(logits, labels))) == pytest.approx(float(expected), abs=1e-5)
    plain = replace(active, settings={"weight": 0.5, "gamma": 0.0})
    assert float(plain.sum(inputs_of(logits, labels))) == pytest.approx(float(labels_term(logits, labels, 0.0)), abs=1e-5)


def inputs_of(logits: torch.Tensor, labels: torch.Tensor) -> TermInputs:
    source_mask = torch.ones(labels.shape, dtype=torch.bool)
    return TermInputs(
        student=ModelOutputs(logits=logits), teacher=None, labels=labels, source_mask=source_mask, phi={}
    )


def test_means_do_not_depend_on_how_a_step_is_cut(
    focal_package: Path, install: Callable[[Path], None], tmp_path: Path, tiny_model_folder: Callable[..., Path]
) -> None:
    """Each term is divided by its own items of the whole step: label tokens, examples, source tokens."""
    install(focal_package)
    install(write_package(tmp_path, {"terms": {"whole": term_facts(), "read": term_facts()}},
                          terms="whole = ext:TERM\nread = ext:SOURCES"))  # fmt: skip
    own = {"focal": {"weight": 0.5, "gamma": 1.5}, "whole": {"weight": 0.01}, "read": {"weight": 0.02}}
    settings = ObjectiveSettings(**{**OFF, "labels": LabelsTerm(weight=0.7, smoothing=0.1)}, own=own)
    labels = torch.tensor([[5, 6, -100, -100], [7, 8, 9, 5], [6, -100, -100, -100], [9, 9, 9, -100], [5, 7, 6, 8]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 0]])
    batch = {"input_ids": (torch.arange(15).reshape(5, 3) + 5) * mask + (1 - mask), "attention_mask": mask, "labels": labels}
    num: Any = {"label-tokens": int((labels != -100).sum()), "examples": 5, "source-tokens": int(mask.sum())}
    student = load_model(tiny_model_folder("bart", 2, 2)).double()
    objective = Objective(student, settings, ()).eval()
    assert objective.items() == {
        "labels": "label-tokens", "focal": "label-tokens", "whole": "examples", "read": "source-tokens",
    }  # fmt: skip
    found = []
    for world, cuts in ((1, [[0, 1, 2, 3, 4]]), (1, [[0], [3, 1], [4, 2]]), (2, [[0, 4, 2], [1, 3]])):
        student.zero_grad()
        loss = torch.zeros((), dtype=torch.float64)
        for rows in cuts:
            part = {name: tensor[rows] for name, tensor in batch.items()}
            share, _ = objective(part, factors_of(num, world))
            (share / world).backward()  # DeepSpeed averages over ranks
            loss = loss + share.detach() / world
        found.append((float(loss), {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}))
    with torch.no_grad():
        logits = student(**batch).logits[labels != -100]
    terms = {active.name: active for active in assemble(settings)}
    whole = inputs_of(logits, labels[labels != -100])
    tokens = num["label-tokens"]
    expected = (
        0.7 * labels_term(logits, whole.labels, 0.1) / tokens + 0.5 * terms["focal"].sum(whole) / tokens
        + 0.01 * logits.sum() / 5 + 0.02 * logits.sum() / num["source-tokens"]
    )  # fmt: skip
    for value, gradients in found:
        assert value == pytest.approx(float(expected), rel=1e-6)
        assert all(torch.allclose(gradients[name], found[0][1][name], atol=1e-9) for name in found[0][1])


def test_the_example_metric_and_family(focal_package: Path, install: Callable[[Path], None]) -> None:
    install(focal_package)
    found = score(["length_error", "rouge1"], ["one two three", "one"], ["one two", "one two"])
    assert list(found) == ["length_error", "rouge1"]
    assert found["length_error"] == {"value": 50.0, "higher_is_better": False}
    assert is_better("length_error", 10.0, 20.0)
    assert families.family_of("plbart") == replace(FAMILIES["bart"], model_type="plbart", decoder_start="language")
    arguments = {
        "vocab_size": 40, "d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 64,
    }  # fmt: skip
    model = build.construct(families.family_of("plbart"), arguments, 1, own_head=False)
    assert families.depths(model) == {"encoder": 2, "decoder": 1}
    assert families.head_is_tied(model) and len(families.positions(model)) == 2


# --- what a plan names ------------------------------------------------------------------------------


def stages_with(**record: str) -> Any:
    named = ExtensionRecord(**{"distribution": "distilc-focal", "version": "0.1.0", "sha256": "0" * 64, **record})
    return [SimpleNamespace(settings=SimpleNamespace(extensions={"terms.focal": named}))]


def test_an_extension_that_is_missing_or_another_is_refused(
    focal_package: Path, install: Callable[[Path], None], tmp_path: Path
) -> None:
    told = failure(lambda: require(stages_with()))
    assert told.code == "R107" and "the term focal of distilc-focal 0.1.0, which is not installed" in told.message
    assert told.hint == "pip install distilc-focal==0.1.0"
    install(focal_package)
    told = failure(lambda: require(stages_with()))
    assert told.code == "R107" and "is not what the plan was compiled with" in told.message
    told = failure(lambda: require(stages_with(distribution="other-losses")))
    assert "here it is distilc-focal's" in told.message
    (entry,) = entries("terms")["focal"]
    distribution = next(found for found in metadata.distributions() if found.name == "distilc-focal")
    sha256 = package_content.content_hash(distribution, entry.module, extensions._origin(entry))
    require(stages_with(sha256=sha256))
    require([SimpleNamespace(settings=SimpleNamespace())])  # type: ignore[list-item]


def test_a_plan_whose_family_is_not_installed_is_told_so(install: Callable[[Path], None]) -> None:
    plan = load_plan(SAMPLE)
    record = ExtensionRecord(distribution="distilc-focal", version="0.1.0", sha256="0" * 64)
    stages = tuple(
        replace(stage, settings=replace(stage.settings, extensions={"families.plbart": record}))
        if stage.kind in ("teacher", "student")
        else stage
        for stage in plan.stages
    )
    plan = replace(plan, teacher=replace(plan.teacher, family="plbart"), stages=stages)
    check_available(plan)  # it is not this release that lacks it
    assert failure(lambda: require(plan.stages)).code == "R107"
    with pytest.raises(Failure) as caught:
        check_available(replace(plan, teacher=replace(plan.teacher, family="prophetnet")))
    assert caught.value.code == "R106"


def test_terms_that_look_at_what_is_not_computed_are_refused_before_anything_starts(
    install: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (available, assembly):
        monkeypatch.setattr(module, "COMPUTED", frozenset({"logits"}))
    install(write_package(tmp_path, {"terms": {"deep": term_facts("teacher", "hidden")}}, terms="deep = ext:DEEP"))
    plan = load_plan(SAMPLE)
    objective = ObjectiveSettings(**OFF, own={"deep": {"weight": 1.0}})
    stages = tuple(
        replace(stage, settings=replace(stage.settings, objective=objective)) if stage.kind == "train" else stage
        for stage in plan.stages
    )
    told = failure(lambda: check_available(replace(plan, stages=stages)))
    assert told.code == "R106" and "loss terms that look at hidden and teacher (deep)" in told.message
    told = failure(lambda: assemble(objective))
    assert told.code == "R305" and "looks at hidden, teacher" in told.message


# --- packages that go wrong --------------------------------------------------------------------------


def test_a_name_that_two_packages_register(install: Callable[[Path], None], tmp_path: Path) -> None:
    for name in ("one", "two"):
        install(write_package(tmp_path / name, {"terms": {"focal": term_facts()}}, name, terms="focal = ext:TERM"))
    told = failure(lambda: TERMS["focal"])
    assert told.code == "R108" and "two 1.0" in told.message and "one 1.0" in told.message


def test_a_name_of_ours_stays_ours(install: Callable[[Path], None], tmp_path: Path) -> None:
    before = METRICS["rouge2"]
    install(write_package(tmp_path, {}, metrics="rouge2 = ext:NAN"))
    assert METRICS["rouge2"] is before


@pytest.mark.parametrize(
    ("entry", "facts", "module", "message"),
    [
        ("ext:TERM", term_facts(), "raise RuntimeError('no GPU')", "failed: RuntimeError: no GPU"),
        ("ext:MISSING", term_facts(), MODULE, "failed: AttributeError"),
        ("nowhere.at.all:TERM", term_facts(), MODULE, "failed: ModuleNotFoundError"),
        ("ext:NAN", term_facts(), MODULE, "is a Metric, not a distilc.runtime.protocol.Term"),
        ("ext:DEEP", term_facts(), MODULE, "says needs ['logits'] in its schema and ['hidden', 'teacher'] in its code"),
        ("ext:TERM", None, MODULE, "failed: KeyError"),
    ],
)
def test_a_package_is_named_for_what_goes_wrong_in_it(
    entry: str, facts: Any, module: str, message: str, install: Callable[[Path], None], tmp_path: Path
) -> None:
    fragment = {"terms": {} if facts is None else {"mine": facts}}
    install(write_package(tmp_path, fragment, module=module, terms=f"mine = {entry}"))
    told = failure(lambda: TERMS["mine"])
    assert told.code == "R108" and told.spec_path == "loss"
    assert told.message.startswith("the term mine of one 1.0 ") and message in told.message


@pytest.mark.parametrize(("name", "message"), [("EACH", "a scalar tensor"), ("FAILS", "ZeroDivisionError: no items")])
def test_a_term_that_gives_no_sum(name: str, message: str, install: Callable[[Path], None], tmp_path: Path) -> None:
    install(write_package(tmp_path, {"terms": {"mine": term_facts()}}, terms=f"mine = ext:{name}"))
    (active,) = assemble(ObjectiveSettings(**OFF, own={"mine": {"weight": 1.0}}))
    told = failure(lambda: active.sum(inputs_of(torch.ones(2, 3, 5), torch.zeros(2, 3, dtype=torch.long))))
    assert told.code == "R108" and message in told.message


def test_a_metric_that_gives_no_number(install: Callable[[Path], None], tmp_path: Path) -> None:
    facts = {"needs": "texts", "higher_is_better": True}
    install(write_package(tmp_path, {"metrics": {"mine": facts}}, metrics="mine = ext:NAN"))
    assert failure(lambda: score(["mine"], ["a"], ["b"])).message == (
        "the metric mine of one 1.0 gave nan, which is not a finite number"
    )


def test_a_metric_of_the_loss(install: Callable[[Path], None], tmp_path: Path) -> None:
    facts = {"needs": "loss", "higher_is_better": False}
    install(write_package(tmp_path, {"metrics": {"perplexity": facts}}, metrics="perplexity = ext:PERPLEXITY"))
    found = score_loss(["loss", "perplexity"], 2.0)
    assert found["perplexity"]["value"] == pytest.approx(7.38905609893065)


def test_the_doctor_lists_them_whether_they_are_used_or_not(
    focal_package: Path, install: Callable[[Path], None], tmp_path: Path
) -> None:
    install(focal_package)
    install(write_package(tmp_path, {}, name="broken-losses", terms="mine = ext:TERM"))
    found = {words: told and told.code for words, told in survey()}
    assert found["the term focal of distilc-focal 0.1.0"] is None
    assert found["the term mine of broken-losses 1.0"] == "R108"


def test_memory_and_our_own_faults_are_no_package_s() -> None:
    (ours,), foreign = entries("terms")["labels"], SimpleNamespace(distribution="one")
    with pytest.raises(ZeroDivisionError), extensions.blamed(ours):
        raise ZeroDivisionError
    with pytest.raises(RuntimeError), extensions.blamed(foreign):  # type: ignore[arg-type]
        raise RuntimeError("CUDA out of memory")


# --- the whole way -----------------------------------------------------------------------------------

SPEC = """\
version: 1
name: focal
task: summarization
teacher:
  architecture: {family: plbart, encoder_layers: 2, decoder_layers: 2, d_model: 32, heads: 2, ffn_dim: 64, max_positions: 256}
  tokenizer: {kind: bpe, vocab_size: 400}
  train: {batch: {examples: 8}, stopping: {max_steps: 1}, validation: {limit: 4, metrics: [loss]}}
student: {decoder_layers: 1}
data:
  train: {builtin: bulletins, split: train, limit: 32}
  validation: {builtin: bulletins, split: validation, limit: 4}
  test: {builtin: bulletins, split: test, limit: 4}
  max_source_tokens: 256
  max_target_tokens: 64
batch: {examples: 8}
loss: {labels: 0.5, focal: {weight: 0.25, gamma: 1.5}}
stopping: {max_steps: 2, monitor: length_error}
validation: {every: {steps: 1}, limit: 4, metrics: [loss, length_error], generation: {max_length: 12}}
evaluation: {metrics: [rouge2, length_error], generation: {max_length: 12}, teacher_generation: {max_length: 12}, speed: null}
"""


@pytest.mark.slow
def test_a_spec_is_trained_with_the_term_and_scored_with_the_metric(focal_package: Path, tmp_path: Path) -> None:
    package = tmp_path / "installed"
    shutil.copytree(focal_package, package)
    (tmp_path / "spec.yaml").write_text(SPEC, "utf-8")

    def distilc(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ, "PYTHONPATH": str(package), "XDG_CONFIG_HOME": str(tmp_path), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "distilc.compiler", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)

    result = distilc("run", "spec.yaml", "--in-process")
    assert result.returncode == 0, result.stdout + result.stderr
    proved = distilc("verify", "spec.yaml", "--json")
    assert proved.returncode == 0, proved.stdout + proved.stderr
    (verified,) = json.loads(proved.stdout)["runs"]
    states = {proof["claim"]: proof["state"] for proof in verified["proofs"] if proof["point"] == "h"}
    assert states == dict.fromkeys(
        ("the term labels", "the term focal", "the loss", "the gradient of the loss"), "proved"
    )  # by the reference that the package brings
    (run,) = (tmp_path / ".distilc" / "runs").iterdir()
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    assert summary["models"]["student"]["family"] == "plbart"
    assert set(summary["student"]) == {"rouge2", "length_error"} and "length_error" not in summary["retention"]
    predictions = [
        json.loads(line)
        for line in (store_of(tmp_path, summary, "evaluate-student") / "predictions.test.jsonl").read_text().splitlines()
    ]
    errors = [abs(len(p["prediction"].split()) / len(p["reference"].split()) - 1) for p in predictions]
    assert summary["student"]["length_error"] == pytest.approx(100 * sum(errors) / len(errors))
    logged = [json.loads(line)["metrics"] for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    steps = [found for found in logged if "loss/focal" in found]
    assert len(steps) == 2
    for found in steps:
        assert 0 < found["loss/focal"] < found["loss/labels"]
        assert found["loss/total"] == pytest.approx(0.5 * found["loss/labels"] + 0.25 * found["loss/focal"])
    # The plan is held to the package that it was compiled with.
    module = package / "distilc_focal" / "focal.py"
    module.write_text(module.read_text("utf-8") + "# another\n", "utf-8")
    plan = str(tmp_path / ".distilc" / "plans" / "focal")
    assert distilc("run", plan).returncode == 0  # everything is in the store
    refused = distilc("run", plan, "--redo", "train")
    assert refused.returncode == 1
    assert "R107" in refused.stdout + refused.stderr and "its files have changed" in refused.stdout + refused.stderr
    assert (store_of(tmp_path, summary, "train") / "manifest.json").is_file()  # nothing was thrown away for it


def store_of(folder: Path, summary: dict[str, Any], stage: str) -> Path:
    return folder / ".distilc" / "store" / str(summary["stages"][stage]["key"])
