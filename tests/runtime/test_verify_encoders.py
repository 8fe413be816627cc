"""`verify` on what reads: classifications and masked language models are proved, and each of five planted defects is
named with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distilc.compiler.pipeline import compile_spec, lower_runs
from distilc.compiler.plan.emit import plan_tree
from distilc.compiler.resolve.site import SiteOptions, load_site
from distilc.runtime.data import classes, masking
from distilc.runtime.data.classes import name_outputs
from distilc.runtime.data.train_tokenizer import train_tokenizer
from distilc.runtime.execution.control import Control
from distilc.runtime.execution.processes import Ranks, StopRequest
from distilc.runtime.execution.store import Store
from distilc.runtime.execution.worker import run_stage
from distilc.runtime.models import forward
from distilc.runtime.models.build import build
from distilc.runtime.models.families import FAMILIES
from distilc.runtime.models.load import load_tokenizer
from distilc.runtime.models.save import save_model
from distilc.runtime.objective.objective import Objective
from distilc.runtime.plan.load import load_plan
from distilc.runtime.verify.proof import diagnosis
from distilc.runtime.verify.prove import prove
from distilc.runtime.verify.subject import Subject, subject_of

NAMES = ["contradiction", "neutral", "entailment"]  # of the model; the spec counts the other way round
PAIRS = [
    ("the council approved a new bridge", "a bridge was approved", "entailment"),
    ("heavy rain closed two roads", "all roads were open", "contradiction"),
    ("a local team won the final", "the team is young", "neutral"),
    ("prices of bread rose in march", "bread was cheaper in march", "contradiction"),
    ("the museum shows letters of a sailor", "letters are shown", "entailment"),
    ("doctors warned of a new fever", "the fever came by ship", "neutral"),
    ("the school stayed shut", "the school was closed", "entailment"),
    ("a full ground", "nobody was there", "contradiction"),
    ("a bridge", "the bridge is new", "neutral"),
]
SPEC = """\
version: 1
name: read
task: {task}
teacher: {{path: {teacher}}}
student: {{encoder_layers: 2, d_model: 8, ffn_dim: 16, heads: 1, freeze: none,
           init: {{encoder: random, embeddings: random}}}}
loss: {loss}
phi: {{encoder: block-ends}}
data:
  train: {{files: {data}}}
  validation: {{files: {data}, limit: 4}}
  test: {{files: {data}, limit: 4}}
  columns: {columns}
  max_source_tokens: 40
{more}
batch: {{examples: 4}}
training: {{learning_rate: 1.0e-3, warmup: {{steps: 2}}, gradient_clipping: 1.0}}
stopping: {{max_epochs: 2}}
validation: {{metrics: [loss]}}
evaluation: {{speed: null}}
"""
CLASSIFICATION = {
    "task": "classification", "loss": "{labels: 1.0, logits: {weight: 0.8, temperature: 2.0}, hidden: {encoder: 0.5}}",
    "columns": "{premise: premise, hypothesis: hypothesis, label: label}",
    "more": "  labels: [entailment, neutral, contradiction]",
}  # fmt: skip
MASKED_LM = {
    "task": "masked-lm",
    "loss": "{labels: 2.0, logits: {weight: 5.0, temperature: 2.0, positions: all}, hidden: {encoder: 0.5}, cosine: 1.0}",
    "columns": "{text: text}", "more": "  masking: {share: 30, masked: 80, random: 10, rare: 0.7}",
}  # fmt: skip
Made = Callable[[dict[str, str]], Subject]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """The training of a compiled plan of a BERT and a narrower student, with its artifacts."""

    def make(task: dict[str, str]) -> Subject:
        texts = [text for pair in PAIRS for text in pair[:2]] * 4
        tokenizer, teacher, data = tmp_path / "tokenizer", tmp_path / "teacher", tmp_path / "data.jsonl"
        train_tokenizer(texts, "wordpiece", 320, FAMILIES["bert"], 64).save_pretrained(tokenizer)
        loaded = load_tokenizer(tokenizer)
        config = {
            "vocab_size": len(loaded), "max_position_embeddings": 64, "hidden_size": 16, "num_hidden_layers": 3,
            "num_attention_heads": 2, "intermediate_size": 32, "initializer_range": 0.3,
        }  # fmt: skip
        model = build("bert", config, 3, loaded, len(NAMES) if task is CLASSIFICATION else None)
        if task is CLASSIFICATION:
            name_outputs(model.config, NAMES)
        save_model(model, teacher, tokenizer=tokenizer)
        rows = [{"premise": p, "hypothesis": h, "label": label, "text": f"{p} , {h} " * 3} for p, h, label in PAIRS]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        spec = tmp_path / "spec.yaml"
        spec.write_text(SPEC.format(teacher=teacher, data=data, **task), "utf-8")
        site = load_site(SiteOptions(workspace=tmp_path / "workspace", offline=True, devices=1)).site
        assert site is not None
        plans, after = lower_runs(compile_spec(spec, (), site), site, fingerprints=True)
        assert not after.failed, after.diagnostics
        (tmp_path / "plan.json").write_text(json.dumps(plan_tree(plans[0])), "utf-8")
        plan = load_plan(tmp_path)
        store, control = Store(tmp_path / "workspace" / "store"), Control(tmp_path / "control")
        control.folder.mkdir()
        ranks = Ranks(0, 1, 0, 1, "cpu")
        for stage in plan.stages:
            if stage.id == "train":
                break
            run_stage(plan, stage, store, control, ranks, StopRequest(None, None, ranks))
        return subject_of(plan, store)

    return make


@pytest.mark.parametrize(("task", "labels"), [(CLASSIFICATION, 1), (MASKED_LM, 2)], ids=["classification", "masked-lm"])
def test_both_are_proved(task: dict[str, str], labels: int, made: Made) -> None:
    proofs = prove(made(task))
    assert [f"({proof.point}) {proof.claim}: {proof.note}" for proof in proofs if proof.state == "failed"] == []
    assert sum(proof.point == "j" for proof in proofs) == labels
    assert {"the term logits", "the term hidden_encoder", "the gradient of the loss"} <= {proof.claim for proof in proofs}


# --- planted defects ---------------------------------------------------------------------------------


def swapped_labels(patch: pytest.MonkeyPatch) -> None:
    """The order of the spec is taken for that of the model's outputs."""
    patch.setattr(classes, "same_names", lambda some, others: False)


def padding_that_is_read(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(forward, "_attended", torch.ones_like)


def masked_special_tokens(patch: pytest.MonkeyPatch) -> None:
    right = masking.choice_of

    def of_all(*arguments: Any, **named: Any) -> Any:
        found = right(*arguments, **named)
        found.weights[:] = 1.0
        return found

    patch.setattr(masking, "choice_of", of_all)


def shifted_phi(patch: pytest.MonkeyPatch) -> None:
    right = Objective.__init__

    def shifted(self: Objective, *arguments: Any, **named: Any) -> None:
        right(self, *arguments, **named)
        self.states.phi = {stack: [max(0, layer - 1) for layer in found] for stack, found in self.states.phi.items()}

    patch.setattr(Objective, "__init__", shifted)


def untrained_projection(patch: pytest.MonkeyPatch) -> None:
    right = Objective.__init__

    def frozen(self: Objective, *arguments: Any, **named: Any) -> None:
        right(self, *arguments, **named)
        self.projections.requires_grad_(False)

    patch.setattr(Objective, "__init__", frozen)


DEFECTS = [
    (swapped_labels, CLASSIFICATION, "R325", "a row of the class .* has the label [02], which for the teacher is"),
    (padding_that_is_read, CLASSIFICATION, "R311", "is padding attended to"),
    (masked_special_tokens, MASKED_LM, "R325", r"the special token \[\w+\] is to be predicted"),
    (shifted_phi, CLASSIFICATION, "R317", "student encoder layer 0 is not held to the output of teacher layer"),
    (untrained_projection, CLASSIFICATION, "R314", "the projection matrices.encoder.weight is not trained"),
]


@pytest.mark.parametrize(("plant", "task", "code", "place"), DEFECTS, ids=[plant.__name__ for plant, *_ in DEFECTS])
def test_a_planted_defect_is_found_and_its_place_named(
    plant: Callable[[pytest.MonkeyPatch], None], task: dict[str, str], code: str, place: str, made: Made,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    plant(monkeypatch)
    failure = diagnosis(prove(made(task)))
    assert failure is not None
    assert failure.code == code and re.search(place, failure.message), failure.message
