"""`peek` on compiled plans: what it shows is what the training would see, and faults are said in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from distilc.compiler.pipeline import compile_spec, lower_runs
from distilc.compiler.plan.emit import plan_tree
from distilc.compiler.resolve.site import SiteOptions, load_site
from distilc.runtime.commands.peek import main
from distilc.runtime.data.batches import collate, micro_batches
from distilc.runtime.data.rows import Rows
from distilc.runtime.execution.store import Store
from distilc.runtime.failure import Failure
from distilc.runtime.models.load import load_model, load_tokenizer
from distilc.runtime.peek.prepare import Prepared, prepare
from distilc.runtime.peek.sample import Asked, sample
from distilc.runtime.peek.tables import print_facts
from distilc.runtime.plan.load import load_plan
from distilc.runtime.training.step_schedule import StepSchedule

KD = "{labels: 1.0, logits: {weight: 0.8, temperature: 2.0}, hidden: {decoder: 3.0}}"
SPEC = """\
version: 1
name: peeked
task: summarization
teacher: {teacher}
student: {{decoder_layers: 2}}
loss: {loss}
data:
  train: {{files: {data}}}
  validation: {{files: {data}, limit: 4}}
  test: {{files: {data}, limit: 4}}
  columns: {{id: id, source: source, target: target}}
  prefix: "the "
  max_source_tokens: 60
  max_target_tokens: {target_tokens}
batch: {{examples: 4}}
stopping: {{max_epochs: 1}}
validation: {{metrics: [loss]}}
evaluation: {{speed: null}}
{more}
"""
TEXTS = [
    ("council of the small town approved a new bridge over the river", "a new bridge over the river"),
    ("heavy rain closed two roads near the harbour", "rain closed roads"),
    ("local team won", "the local team won"),
    ("prices of bread and milk rose by four percent in march", "prices rose"),
    ("museum shows letters", "museum shows letters"),
    ("### %%%", "doctors warned"),
]


@pytest.fixture
def compiled(tmp_path: Path, tiny_model_folder: Callable[..., Path]) -> Callable[..., Path]:
    """(loss, teacher, target_tokens, more) -> the folder of a compiled plan."""

    def compile_it(loss: str = KD, teacher: str = "", target_tokens: int = 40, more: str = "") -> Path:
        data = tmp_path / "data.jsonl"
        rows = [{"id": f"r{i}", "source": source, "target": target} for i, (source, target) in enumerate(TEXTS)]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        teacher = teacher or f"{{path: {tiny_model_folder('bart', 3, 4)}}}"
        text = SPEC.format(loss=loss, teacher=teacher, data=data, target_tokens=target_tokens, more=more)
        (tmp_path / "spec.yaml").write_text(text, "utf-8")
        site = load_site(SiteOptions(workspace=tmp_path / "workspace", offline=True, devices=1)).site
        assert site is not None
        plans, after = lower_runs(compile_spec(tmp_path / "spec.yaml", (), site), site, fingerprints=True)
        assert not after.failed, after.diagnostics
        (tmp_path / "plan.json").write_text(json.dumps(plan_tree(plans[0])), "utf-8")
        return tmp_path

    return compile_it


def peeked(folder: Path, asked: Asked = Asked()) -> tuple[dict[str, Any], Prepared]:  # noqa: B008
    plan = load_plan(folder)
    store = Store(Path(plan.site.workspace) / "store")
    (folder / "temporary").mkdir()
    prepared = prepare(plan, store, folder / "temporary")
    return sample(prepared, store, asked), prepared


def test_what_is_shown_is_what_the_training_sees(compiled: Callable[..., Path]) -> None:
    facts, prepared = peeked(compiled(), Asked(rows=4))
    rows = Rows.open(prepared.inputs["data"], "train")
    settings, execution = prepared.stage.settings, prepared.stage.execution
    step = StepSchedule(settings, rows).steps(after=0)[0]
    parts = micro_batches(step.ids, rows.source_lengths, rows.target_lengths, 1, execution.micro_batch_tokens or 1)
    assert [row["row"] for row in facts["rows"]] == parts[0][0].tolist()
    assert facts["step"]["micro_batches"] == len(parts) and facts["step"]["examples"] == len(step.ids)

    model = load_model(prepared.inputs["model"])
    teacher = load_model(Path(json.loads((prepared.inputs["teacher"] / "reference.json").read_text())["path"]))
    tokenizer = load_tokenizer(prepared.inputs["model"])
    batch = collate(rows, np.asarray(parts[0][0]), tokenizer.pad_token_id)
    inputs = model.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
    with torch.no_grad():
        for who, of in (("student", model), ("teacher", teacher)):
            logits = of(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], decoder_input_ids=inputs).logits
            likeliest = logits.softmax(-1).max(-1)
            for b, row in enumerate(facts["rows"]):
                for t, at in enumerate(row["positions"][:3]):
                    token, probability = at[who][0]
                    assert probability == pytest.approx(float(likeliest.values[b, t]), abs=1e-3)
                    text = tokenizer.convert_ids_to_tokens(int(likeliest.indices[b, t]))
                    assert token.lstrip("▁") in (text.lstrip("▁"), text)
    row = facts["rows"][0]
    assert row["source"].startswith("<s> the ") and row["source"].endswith("</s>")
    assert [at["decoder_input"] for at in row["positions"][1:3]] == [at["label"] for at in row["positions"][:2]]
    assert row["positions"][0]["decoder_input"] == "</s>"
    assert sum(at["counts"] for at in row["positions"]) == rows.target_lengths[row["row"]]
    padding = 100 * (1 - float(batch["attention_mask"].float().mean()))
    assert facts["batch"]["padding"]["source"] == pytest.approx(padding)


def test_layers_and_objective(compiled: Callable[..., Path]) -> None:
    facts, prepared = peeked(compiled())
    decoder = [layer for layer in facts["layers"] if layer["stack"] == "decoder"]
    plan = prepared.plan
    assert [layer["copied_from"] for layer in decoder] == list(plan.copy.decoder or ())
    assert [layer["looks_at"] for layer in decoder] == list(plan.phi.decoder or ())
    assert facts["teacher"] == {"model": plan.teacher.model, "trained": True, "used": True, "shares_encoder": True}
    rows = Rows.open(prepared.inputs["data"], "train")
    step = StepSchedule(prepared.stage.settings, rows).steps(after=0)[0]
    terms = {term["term"]: (term["weight"], term["items"], term["items_of_step"]) for term in facts["objective"]}
    labels = int(rows.target_lengths[step.ids].sum())
    assert terms == {
        "labels": (1.0, "label-tokens", labels), "logits": (0.8, "label-tokens", labels),
        "hidden_decoder": (3.0, "label-tokens", labels),
    }  # fmt: skip
    assert facts["notes"] == [] and all(term["value"] > 0 for term in facts["objective"])


def test_what_looks_wrong_is_said(compiled: Callable[..., Path]) -> None:
    folder = compiled(loss="{labels: 1.0}", target_tokens=4)
    facts, _ = peeked(folder, Asked(id="r4"))
    assert facts["rows"][0]["id"] == "r4" and "teacher" not in facts["rows"][0]["positions"][0]
    said = "\n".join(facts["remarks"])
    assert "every target of the training data is cut to max_target_tokens 4" in said
    assert "row 4: the target equals the source" in said
    assert facts["data"]["truncated"] == {"source": 0.0, "target": 100.0}
    plan = load_plan(folder)
    store = Store(Path(plan.site.workspace) / "store")
    (folder / "again").mkdir()
    unknown = sample(prepare(plan, store, folder / "again"), store, Asked(row=5))["rows"][0]["remarks"]
    assert any("source tokens are unknown to the tokenizer" in remark for remark in unknown)


def test_a_teacher_that_is_not_trained_yet_is_shown_as_it_is(compiled: Callable[..., Path]) -> None:
    folder = compiled()
    trained = compiled(teacher=f"{_teacher(folder)[:-1]}, train: {{stopping: {{max_epochs: 1}}}}}}")
    facts, prepared = peeked(trained)
    assert not facts["teacher"]["trained"] and "the teacher is not trained yet" in facts["notes"][0]
    store = Store(Path(prepared.plan.site.workspace) / "store")
    assert not store.has(prepared.plan.stage("teacher-train").key)
    assert not store.has(prepared.plan.stage("student").key)  # it would be another one
    assert store.has(prepared.plan.stage("data").key)


def test_labels_that_are_not_written_yet(compiled: Callable[..., Path]) -> None:
    facts, prepared = peeked(compiled(more="pseudo_labels: {own: {by: teacher}}\ntargets: [own]"))
    assert "the pseudo-labels own are not written yet: the original targets" in facts["notes"][0]
    assert facts["data"]["targets"] == "original" and facts["data"]["rows"] == len(TEXTS)
    assert not Store(Path(prepared.plan.site.workspace) / "store").has(prepared.plan.stage("labels-own").key)


def test_a_batch_that_is_not_there(compiled: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = compiled(loss="{labels: 1.0}")
    facts, prepared = peeked(folder)
    store = Store(Path(prepared.plan.site.workspace) / "store")
    for asked, words in (
        (Asked(row=6), "have 6 rows, there is no row 6"), (Asked(id="x"), "has the id 'x'"), (Asked(batch=9), "there is no 9"),
    ):  # fmt: skip
        with pytest.raises(Failure) as raised:
            sample(prepared, store, asked)
        assert raised.value.code == "R360" and words in raised.value.message
    console = Console(width=80, record=True, file=open("/dev/null", "w"), highlight=False)  # noqa: SIM115
    print_facts(facts, console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80 and any("nothing to remark" in line or "remarks" in line for line in lines)


def test_the_verb(compiled: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = compiled(loss="{labels: 1.0}")
    assert main([str(folder), "--format", "json", "--row", "3"]) == 0
    shown = capsys.readouterr()
    facts = json.loads(shown.out)
    assert facts["name"] == "peeked" and [row["id"] for row in facts["rows"]] == ["r3"]
    assert "data: done in" in shown.err  # what is made first is told beside the answer
    assert main([str(folder), "--row", "99"]) == 1
    assert "R360: the training data have 6 rows" in capsys.readouterr().err


def _teacher(folder: Path) -> str:
    line = next(line for line in (folder / "spec.yaml").read_text("utf-8").splitlines() if line.startswith("teacher:"))
    return line.removeprefix("teacher: ")
