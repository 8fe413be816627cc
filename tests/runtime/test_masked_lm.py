"""Masked language models from data to their scores: losses as torch's own, DistilBERT made of BERT, a whole run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import CosineEmbeddingLoss, CrossEntropyLoss, KLDivLoss
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertTokenizer,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
)

from distilc.compiler.resolve.model_config import architecture_of
from distilc.runtime.models.load import load_model, load_tokenizer, stored_parameters
from distilc.runtime.models.save import save_model
from distilc.runtime.models.shrink import shrink
from distilc.runtime.objective.objective import Objective, factors_of
from distilc.runtime.objective.teacher import Teacher
from distilc.runtime.plan.settings import LabelsTerm, LogitsTerm, ObjectiveSettings, StackInit, StudentSettings
from distilc.runtime.report.table import footnote
from distilc.runtime.verify.copies import _outside
from distilc.runtime.verify.equality import _padded, _with_room
from distilc.runtime.verify.subject import counts_of

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
WORDS = "the of and a river bridge town road rain school bread price letter sailor sister child doctor fever".split()
LAYERS = (0, 2)
# arXiv 1910.01108's code: what each tensor of the student is called in BERT.
IN_LAYER = {
    "attention.q_lin": "attention.self.query", "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value", "attention.out_lin": "attention.output.dense",
    "sa_layer_norm": "attention.output.LayerNorm", "ffn.lin1": "intermediate.dense", "ffn.lin2": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}  # fmt: skip
OUTSIDE = {
    "distilbert.embeddings.word_embeddings.weight": "bert.embeddings.word_embeddings.weight",
    "distilbert.embeddings.position_embeddings.weight": "bert.embeddings.position_embeddings.weight",
    "distilbert.embeddings.LayerNorm.weight": "bert.embeddings.LayerNorm.weight",
    "distilbert.embeddings.LayerNorm.bias": "bert.embeddings.LayerNorm.bias",
    "vocab_transform.weight": "cls.predictions.transform.dense.weight",
    "vocab_transform.bias": "cls.predictions.transform.dense.bias",
    "vocab_layer_norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "vocab_layer_norm.bias": "cls.predictions.transform.LayerNorm.bias",
    "vocab_projector.weight": "bert.embeddings.word_embeddings.weight",
    "vocab_projector.bias": "cls.predictions.bias",
}  # fmt: skip


POSITIONS = "distilbert.embeddings.position_embeddings.weight"


def bert_config(**changes: Any) -> BertConfig:
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    return BertConfig(**{
        "vocab_size": 5 + len(WORDS), "max_position_embeddings": 40, "initializer_range": 0.3, **sizes, **changes
    })  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wordpiece")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def teacher_folder(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    model = BertForMaskedLM(bert_config())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "LayerNorm" in name or name.endswith("bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("teacher")
    save_model(model, folder, tokenizer=tokenizer_folder)
    return folder


def student_settings(folder: Path) -> StudentSettings:
    """As the compiler makes them."""
    teacher = architecture_of(json.loads((folder / "config.json").read_text()), "masked-lm")
    student = teacher.shrunk(
        family="distilbert", encoder_layers=2, decoder_layers=0, d_model=teacher.d_model, heads=None, ffn_dim=None
    )
    return StudentSettings(
        family="distilbert", config=student.changes(teacher), encoder_layers=2, decoder_layers=0, embeddings="teacher",
        encoder=StackInit(origin="teacher", layers=LAYERS), decoder=StackInit(origin=None, layers=None), seed=None,
        num_labels=None, parameters=student.parameters,
    )  # fmt: skip


def distilled(folder: Path) -> tuple[Any, Any]:
    """(the student, its teacher)"""
    teacher = load_model(folder)
    student, report = shrink(teacher, student_settings(folder), {"teacher": teacher})
    assert [(layer.layer, layer.origin_layer) for layer in report.copied] == list(enumerate(LAYERS))
    return student.eval(), teacher


def test_a_distilbert_of_a_bert_has_its_tensors_under_other_names(teacher_folder: Path) -> None:
    student, teacher = distilled(teacher_folder)
    assert isinstance(student, DistilBertForMaskedLM) and student.config.activation == "gelu"
    theirs = teacher.state_dict()
    expected = {ours: theirs[name] for ours, name in OUTSIDE.items()}
    for layer, origin in enumerate(LAYERS):
        for ours, name in IN_LAYER.items():
            for kind in ("weight", "bias"):
                own = f"distilbert.transformer.layer.{layer}.{ours}.{kind}"
                expected[own] = theirs[f"bert.encoder.layer.{origin}.{name}.{kind}"]
    state = student.state_dict()
    assert set(state) == set(expected)
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


@torch.no_grad()
def test_it_computes_what_bert_does_without_token_types(teacher_folder: Path) -> None:
    """Of the same layers, once the row of token types that DistilBERT drops adds nothing."""
    student, teacher = distilled(teacher_folder)
    teacher.bert.embeddings.token_type_embeddings.weight.zero_()
    teacher.bert.encoder.layer = torch.nn.ModuleList(teacher.bert.encoder.layer[i] for i in LAYERS)
    ids = torch.tensor([[2, 7, 4, 9, 3], [2, 11, 3, 0, 0]])
    mask = (ids != 0).long()
    ours, theirs = (model.eval()(input_ids=ids, attention_mask=mask).logits for model in (student, teacher))
    torch.testing.assert_close(ours[mask.bool()], theirs[mask.bool()], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_with_folded_token_types_it_computes_what_bert_does(teacher_folder: Path) -> None:
    teacher = load_model(teacher_folder)
    settings = replace(student_settings(teacher_folder), fold_token_types=True)
    student, _ = shrink(teacher, settings, {"teacher": teacher})
    assert _outside(student, teacher, folded=True) is None
    assert _outside(student, teacher, folded=False) == f"{POSITIONS} is not the teacher's"
    teacher.bert.encoder.layer = torch.nn.ModuleList(teacher.bert.encoder.layer[i] for i in LAYERS)
    ids = torch.tensor([[2, 7, 4, 9, 3]])
    ours, theirs = (model.eval()(input_ids=ids).logits for model in (student, teacher))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_classifier_of_a_bert_draws_its_dense_layer_and_nothing_else(teacher_folder: Path) -> None:
    teacher = BertForSequenceClassification(bert_config(num_labels=3))
    wider = DistilBertForSequenceClassification(DistilBertConfig(**{**distilled(teacher_folder)[0].config.to_dict(), "num_labels": 3}))
    parameters = sum(parameter.numel() for parameter in wider.parameters())
    settings = replace(student_settings(teacher_folder), seed=1, num_labels=3, parameters=parameters)
    student, _ = shrink(teacher, settings, {"teacher": teacher})
    assert _outside(student, teacher, folded=False) is None
    with torch.no_grad():
        student.classifier.weight.add_(1)
    assert _outside(student, teacher, folded=False) == "classifier.weight is not the teacher's"


@torch.no_grad()
def test_what_is_outside_of_the_layers_may_be_another_models(teacher_folder: Path) -> None:
    """A classifier that begins as a model of masked tokens: what that does not have is drawn, and so is the head."""
    teacher, (origin, _) = load_model(teacher_folder), distilled(teacher_folder)
    origin.distilbert.embeddings.word_embeddings.weight.mul_(2)
    before = student_settings(teacher_folder)
    wider = DistilBertForSequenceClassification(DistilBertConfig(**{**origin.config.to_dict(), "num_labels": 3}))
    settings = replace(
        before, embeddings="embeddings_origin", encoder=StackInit(origin="encoder_origin", layers=(0, 1)), seed=1,
        num_labels=3, parameters=sum(parameter.numel() for parameter in wider.parameters()),
    )  # fmt: skip
    roles = {"teacher": teacher, "encoder_origin": origin, "embeddings_origin": origin}
    student, other = (shrink(teacher, replace(settings, seed=seed), roles)[0] for seed in (1, 2))
    theirs = origin.state_dict()
    drawn = {name for name, tensor in student.state_dict().items() if not torch.equal(theirs.get(name, tensor + 1), tensor)}
    assert drawn == {f"{part}.{kind}" for part in ("pre_classifier", "classifier") for kind in ("weight", "bias")}
    assert not torch.equal(student.classifier.weight, other.classifier.weight)
    assert _outside(student, origin, folded=False, partly=True) is None
    wider.distilbert.load_state_dict(student.distilbert.state_dict())  # of other classes: their head is not taken
    again, _ = shrink(teacher, settings, {**roles, "embeddings_origin": wider})
    assert not torch.equal(again.classifier.weight, wider.classifier.weight)
    assert torch.equal(again.pre_classifier.weight, wider.pre_classifier.weight)


@pytest.mark.parametrize("positions", ["all", "masked"])
def test_the_triple_loss_is_that_of_torch(teacher_folder: Path, positions: Any) -> None:
    """Domain facts 7.2: KL batchmean times T squared, cross-entropy of the masked tokens, cosine of the last states."""
    student, teacher = distilled(teacher_folder)
    settings = ObjectiveSettings(
        labels=LabelsTerm(weight=2.0, smoothing=0.0),
        logits=LogitsTerm(
            weight=5.0, temperature=2.0, divergence="forward-kl", beta=None, alpha=None, positions=positions
        ),
        hidden=None, attention=None, cosine=1.0, embedding=None, own={}, phi=None,
    )  # fmt: skip
    ids = torch.tensor([[2, 7, 4, 9, 4, 3], [2, 4, 11, 3, 0, 0], [2, 8, 9, 10, 11, 3]])
    labels = torch.full_like(ids, -100)
    labels[0, 2], labels[0, 4], labels[1, 1] = 20, 6, 13
    batch = {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}
    objective = Objective(student, settings, (), Teacher(teacher)).eval()
    counts = counts_of(batch)
    share, raw = objective(batch, factors_of(counts, world=1))

    given = {"input_ids": ids, "attention_mask": batch["attention_mask"], "output_hidden_states": True}
    mine = student(**given)
    with torch.no_grad():
        theirs = teacher(**given)
    real, masked = ids != 0, labels != -100
    rows = real if positions == "all" else masked
    kl = KLDivLoss(reduction="batchmean")(
        (mine.logits[rows] / 2).log_softmax(-1), (theirs.logits[rows] / 2).softmax(-1)
    ) * 2**2  # fmt: skip
    ce = CrossEntropyLoss(ignore_index=-100)(mine.logits.view(-1, mine.logits.shape[-1]), labels.view(-1))
    one, two = mine.hidden_states[-1][real], theirs.hidden_states[-1][real]
    cosine = CosineEmbeddingLoss()(one, two, torch.ones(len(one)))
    items = objective.items()
    found = {name: float(value.detach()) / counts[items[name]] for name, value in raw.items()}
    assert found == pytest.approx({"logits": kl.item(), "labels": ce.item(), "cosine": cosine.item()}, rel=1e-5)
    expected = 5 * kl + 2 * ce + cosine
    assert float(share.detach()) == pytest.approx(expected.item(), rel=1e-5)
    wanted = [parameter for parameter in student.parameters() if parameter.requires_grad]
    for one, two in zip(torch.autograd.grad(share, wanted), torch.autograd.grad(expected, wanted), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("names", [("weight", "bias"), ("gamma", "beta")])
def test_a_checkpoint_of_pre_training_is_read_without_its_pooler(
    names: tuple[str, str], tokenizer_folder: Path, tmp_path: Path
) -> None:
    """Also where the parts of its norms have their first names, as in the published BERT."""
    torch.manual_seed(2)
    whole = BertForPreTraining(bert_config())
    save_model(whole, tmp_path / "model", tokenizer=tokenizer_folder)
    file = tmp_path / "model" / "model.safetensors"
    stored = {
        name.replace("LayerNorm.weight", f"LayerNorm.{names[0]}").replace("LayerNorm.bias", f"LayerNorm.{names[1]}"): t
        for name, t in load_file(file).items()
    }
    save_file(stored, file, metadata={"format": "pt"})
    model = load_model(tmp_path / "model")
    assert isinstance(model, BertForMaskedLM)
    assert stored_parameters(tmp_path / "model") == sum(parameter.numel() for parameter in model.parameters())
    tensors = whole.state_dict()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())


def test_padding_is_proved_of_the_rows_that_have_room_for_more(teacher_folder: Path) -> None:
    """Of 40 positions; a block often fills all of them."""
    model = load_model(teacher_folder)
    mask = torch.zeros(3, 40, dtype=torch.int64)
    for row, length in enumerate((40, 20, 35)):
        mask[row, :length] = 1
    batch = {"input_ids": mask * 7, "attention_mask": mask, "labels": mask * 107 - 100}
    found = _with_room(model, batch)
    assert found is not None and found["input_ids"].shape == found["labels"].shape == (2, 35)
    assert _with_room(model, {name: tensor[:1] for name, tensor in batch.items()}) is None
    assert model(**_padded(model, found, 0)).logits.shape[1] == 38


# --- a whole run -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "data" / "wikitext2_part").is_dir(), reason="the texts are not there")
def test_distilbert_runs_from_its_spec_to_its_table(
    distilc: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped spec on small shapes and a few paragraphs, with BERT's own vocabulary; then what `verify` and `peek`
    say of it."""
    tokenizer = BertTokenizer.from_pretrained(SHARED / "tokenizers" / "bert_uncased")
    teacher = tmp_path / "teacher"
    torch.manual_seed(1)
    BertForMaskedLM(bert_config(vocab_size=len(tokenizer), max_position_embeddings=64)).save_pretrained(teacher)
    tokenizer.save_pretrained(teacher)
    data = SHARED / "data" / "wikitext2_part"
    changes = {
        "teacher": f"{{path: {teacher}}}",
        "student.encoder_layers": "2",
        "student.init": "{embeddings: teacher, encoder: {from: teacher, layers: [0, 2]}}",
        "data.train": f"{{files: {data}/train.jsonl, limit: 8}}",
        "data.validation": f"{{files: {data}/val.jsonl, limit: 2}}",
        "data.test": f"{{files: {data}/test.jsonl, limit: 2}}",
        "data.columns": "{text: text, id: id}",
        "data.max_source_tokens": "64",
        "batch": "{examples: 8}",
        "stopping": "{max_steps: 3}",
        "validation": "{every: {steps: 2}, metrics: [loss, masked_accuracy]}",
        "evaluation": "{metrics: [loss, pseudo_perplexity, masked_accuracy], "
                      "speed: {batch_size: 4, repeats: 1, examples: 4}}",
    }  # fmt: skip
    spec = ROOT / "specs" / "distilbert" / "distilbert-base.yaml"
    given = [part for path, value in changes.items() for part in ("--set", f"{path}={value}")]
    monkeypatch.chdir(tmp_path)
    said = {}
    for verb, more in (("run", ["--in-process"]), ("verify", []), ("peek", [])):
        said[verb] = distilc(verb, str(spec), "--only", "full", *given, *more)
    (run,) = (tmp_path / ".distilc" / "runs").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    for who in ("teacher", "student"):
        scores = summary[who]
        assert scores["pseudo_perplexity"] == pytest.approx(torch.tensor(scores["loss"]).exp().item(), rel=1e-4)
        assert 0 <= scores["masked_accuracy"] <= 100
    assert set(summary["baselines"]["unigram"]) == {"loss", "pseudo_perplexity", "masked_accuracy"}
    assert "95 % interval (bootstrap over masked tokens)" in footnote(summary)
    assert summary["speed"]["student"]["examples_per_second"] > 0
    student = DistilBertForMaskedLM.from_pretrained(run / "student")
    assert load_tokenizer(run / "student").mask_token_id == 103 and student.config.n_layers == 2
    assert ", 0 failed" in said["verify"] and "[MASK]" in said["peek"]
