"""Models that read and do not write: encoders alone, and BART as a classifier. What loads, runs, judges and proves models
takes them as they are; their tasks come by files of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch

from distilc.runtime.data.train_tokenizer import train_tokenizer
from distilc.runtime.models import families
from distilc.runtime.models.build import build, construct
from distilc.runtime.models.forward import (
    Activations,
    label_logits,
    last_states,
    run_stack,
    use_eager_attention,
    with_inputs,
)
from distilc.runtime.models.freeze import freeze
from distilc.runtime.models.head import Head
from distilc.runtime.models.load import load_model, load_tokenizer, stored_parameters
from distilc.runtime.models.save import save_model
from distilc.runtime.objective.objective import Objective, factors_of
from distilc.runtime.objective.teacher import Teacher
from distilc.runtime.plan.settings import (
    AttentionTerm,
    HiddenTerm,
    LabelsTerm,
    LayerMaps,
    LogitsTerm,
    ObjectiveSettings,
)
from distilc.runtime.verify.equality import _padded
from distilc.runtime.verify.own_terms import _inputs, looks_at_maps
from distilc.runtime.verify.reference import Plain, reference_terms, reference_weights
from distilc.runtime.verify.step import _of_head
from distilc.runtime.verify.subject import counts_of, difference, gradients_of

ROWS = {"bert": families.BERT, "roberta": families.ROBERTA, "distilbert": families.DISTILBERT, "bart": families.BART}
ENCODERS = ("bert", "roberta", "distilbert")
# (family, classes or None: predicts masked tokens)
MODELS = [*((family, None) for family in ENCODERS), *((family, 3) for family in ROWS)]
TEXTS = ["a new bridge over the river", "rain closed two roads near the harbour", "prices of bread rose"] * 4

Folder = Callable[..., Path]


def sizes(family: str, depth: int) -> dict[str, Any]:
    """Narrow; weights large enough for outputs to differ."""
    if family == "bart":
        return {
            "d_model": 16, "encoder_layers": depth, "decoder_layers": depth, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "init_std": 0.2,
        }  # fmt: skip
    if family == "distilbert":
        return {"dim": 16, "n_layers": depth, "n_heads": 2, "hidden_dim": 32, "initializer_range": 0.2}
    return {
        "hidden_size": 16, "num_hidden_layers": depth, "num_attention_heads": 2, "intermediate_size": 32,
        "initializer_range": 0.2,
    }  # fmt: skip


@pytest.fixture
def folder_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Folder:
    """(family, classes, depth) -> a model folder with a tokenizer trained for the family."""
    monkeypatch.setattr(families, "FAMILIES", ROWS)

    def folder(family: str, classes: int | None, depth: int) -> Path:
        tokenizer = tmp_path / f"tokenizer-{family}"
        if not tokenizer.is_dir():
            train_tokenizer(TEXTS, "bpe", 320, ROWS[family], 64).save_pretrained(tokenizer)
        made = tmp_path / f"{family}-{classes}-{depth}"
        config = {"vocab_size": 330, "max_position_embeddings": 66, **sizes(family, depth)}
        model = build(family, config, depth, load_tokenizer(tokenizer), classes)
        save_model(model, made, tokenizer=tokenizer)
        return made

    return folder


def batch_of(folder: Path, classes: int | None) -> dict[str, torch.Tensor]:
    """Two pairs of texts of different lengths; labels at two positions, or of the examples."""
    pairs = load_tokenizer(folder)(TEXTS[:2], TEXTS[2:4], padding=True, return_tensors="pt")
    batch = {name: pairs[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in pairs}
    if classes is not None:
        return {**batch, "labels": torch.tensor([2, 0])}
    labels = torch.full_like(batch["input_ids"], -100)
    labels[0, 2], labels[1, 1], labels[1, 4] = 17, 40, 300
    return {**batch, "labels": labels}


def settings_of(
    family: str, classes: int | None, maps: Literal["probabilities", "scores"] = "probabilities"
) -> ObjectiveSettings:
    two = family == "bart"
    return ObjectiveSettings(
        labels=LabelsTerm(weight=1.0, smoothing=0.1),
        logits=LogitsTerm(
            weight=0.8, temperature=2.0, divergence="forward-kl", beta=None, alpha=None,
            positions="all" if classes is None else None,
        ),
        hidden=HiddenTerm(encoder=0.5, decoder=3.0 if two else 0.0, layer_norm="per-token", align="outputs"),
        attention=AttentionTerm(
            encoder_self=0.3, decoder_self=0.7 if two else 0.0, decoder_cross=1.1 if two else 0.0,
            maps=maps,
        ),
        cosine=0.9, embedding=0.4, own={}, phi=LayerMaps(encoder=(1, 2), decoder=(0, 2) if two else None),
    )  # fmt: skip


@pytest.mark.parametrize(("family", "classes"), MODELS)
def test_a_folder_is_loaded_with_the_head_that_it_has(family: str, classes: int | None, folder_of: Folder) -> None:
    folder = folder_of(family, classes, 3)
    model = load_model(folder)
    assert families.classifies(model) == (classes is not None)
    assert families.head(model).out_features == (330 if classes is None else 3)
    assert set(families.depths(model).values()) == {3}
    assert stored_parameters(folder) == families.count_parameters(model)
    in_layers = {id(p) for stack in families.stacks(model) for p in families.layers(model, stack).parameters()}
    for name, parameter in model.named_parameters():
        assert (families.place(ROWS[family], name) is not None) == (id(parameter) in in_layers), name
    freeze(model, ("embeddings", "positions"))
    assert not any(p.requires_grad for module in families.positions(model) for p in module.parameters())


@pytest.mark.parametrize(("family", "classes"), MODELS)
@torch.no_grad()
def test_the_head_gives_the_logits_of_transformers(family: str, classes: int | None, folder_of: Folder) -> None:
    folder = folder_of(family, classes, 3)
    model, batch = load_model(folder), batch_of(folder, classes)
    whole = model(**batch).logits
    torch.testing.assert_close(label_logits(model, batch), whole)
    chosen, head = batch["labels"] != -100, Head(model)
    found = head(head.rows(last_states(model, with_inputs(model, batch)), chosen, batch))
    torch.testing.assert_close(found, whole[chosen], atol=1e-5, rtol=1e-5)
    none = {"input_ids": torch.zeros(1, 1, dtype=torch.int64), "attention_mask": torch.zeros(1, 1, dtype=torch.int64)}
    rows = head.rows(
        last_states(model, with_inputs(model, {**none, "labels": batch["labels"][:1] * 0 - 100})),
        torch.zeros((1, 1) if classes is None else 1, dtype=torch.bool), none,
    )  # fmt: skip
    assert len(rows) == 0  # of a rank without examples


@pytest.mark.parametrize("maps", ["probabilities", "scores"])
@pytest.mark.parametrize(("family", "classes"), MODELS)
def test_the_terms_are_those_of_the_reference(
    family: str, classes: int | None, maps: Literal["probabilities", "scores"], folder_of: Folder
) -> None:
    """In float64, against plain forwards; more padding changes nothing."""
    folder = folder_of(family, classes, 2)
    student, teacher = (load_model(place).double() for place in (folder, folder_of(family, classes, 3)))
    batch, settings = batch_of(folder, classes), settings_of(family, classes, maps)
    objective = Objective(student, settings, (), Teacher(teacher)).eval()
    factors = factors_of(counts_of(batch), world=1)
    share, raw = objective(batch, factors)
    plain, of_teacher = (Plain(model, batch, attentions=looks_at_maps(settings)) for model in (student, teacher))
    expected = reference_terms(settings, plain, of_teacher, batch, {})
    weights = reference_weights(settings)
    assert set(raw) == set(expected) == set(weights)
    counts, items = counts_of(batch), objective.items()
    for name, value in expected.items():
        assert float(raw[name]) / counts[items[name]] == pytest.approx(float(value.detach()), rel=1e-6), name
    total = torch.stack([weight * expected[name] for name, weight in weights.items()]).sum()
    worst, parameter = difference(gradients_of(objective, share), gradients_of(objective, total))
    assert worst < 1e-5, parameter
    wider = _padded(student, batch, load_tokenizer(folder).pad_token_id)
    assert wider["input_ids"].shape[1] > batch["input_ids"].shape[1]
    assert float(objective(wider, factors)[0].detach()) == pytest.approx(float(share.detach()), rel=1e-6)
    given = _inputs(settings, plain, of_teacher, batch, {})
    assert set(given.masks) == set(families.stacks(student))
    loss, number = objective.label_loss(batch).tolist()
    assert number == int((batch["labels"] != -100).sum()) and loss > 0


def test_scores_of_attention_are_the_products_of_queries_and_keys(folder_of: Folder) -> None:
    """Of a padded batch, by BERT's own matrices; the states are those of the fused implementation."""
    model = load_model(folder_of("bert", None, 1)).double()
    batch = batch_of(folder_of("bert", None, 1), None)
    plain = last_states(model, batch)
    use_eager_attention(model, scores=True)
    found = Activations()
    torch.testing.assert_close(run_stack(model, "encoder", batch, None, found), plain)
    (layer,) = families.layers(model, "encoder")
    inner: Any = layer.attention.self
    states = model.bert.embeddings(batch["input_ids"], batch["token_type_ids"])  # (B, S, 16)
    queries, keys = (one(states).view(2, -1, 2, 8).transpose(1, 2) for one in (inner.query, inner.key))
    expected = queries @ keys.transpose(2, 3) / 8**0.5 * batch["attention_mask"][:, None, None]
    assert bool((batch["attention_mask"] == 0).any())
    torch.testing.assert_close(found.self_attention[0], expected)


def test_a_head_that_no_term_asks_for_has_no_gradient_and_needs_none(folder_of: Folder) -> None:
    """As in TinyBERT's first phase: its parameters are known by what the states do not depend on."""
    folder = folder_of("bert", None, 2)
    student, batch = load_model(folder), batch_of(folder, None)
    settings = replace(settings_of("bert", None), labels=None, logits=None)
    objective = Objective(student, settings, (), Teacher(load_model(folder_of("bert", None, 3)))).eval()
    of_head = _of_head(SimpleNamespace(batch=lambda: batch), objective)  # type: ignore[arg-type]
    named = {name for name, _ in objective.named_parameters() if name.startswith("student.cls.")}
    assert of_head == named and "student.cls.predictions.transform.dense.weight" in named
    found = gradients_of(objective, objective(batch, factors_of(counts_of(batch), world=1))[0])
    assert not any(found[name].any() for name in of_head & set(found))
    without = {name: gradient for name, gradient in found.items() if name not in of_head}
    assert difference(found, without) == difference(without, found) == (0.0, difference(found, without)[1])
    lost = {name: gradient for name, gradient in without.items() if "layer.0.attention.output.dense.weight" not in name}
    assert difference(without, lost)[0] == difference(lost, without)[0] == float("inf")


def test_positions_without_a_label_count_in_the_logits_only_where_the_plan_says_all(folder_of: Folder) -> None:
    folder = folder_of("bert", None, 2)
    student, teacher = load_model(folder), load_model(folder_of("bert", None, 3))
    batch, settings = batch_of(folder, None), settings_of("bert", None)
    assert settings.logits is not None
    masked = replace(settings, logits=replace(settings.logits, positions="masked"))
    items = [Objective(student, one, (), Teacher(teacher)).items()["logits"] for one in (settings, masked)]
    assert items == ["source-tokens", "label-tokens"]
    assert counts_of(batch)["source-tokens"] > counts_of(batch)["label-tokens"] == 3


def test_a_head_over_classes_is_drawn_where_it_is_asked_for(folder_of: Folder) -> None:
    model = construct(families.BERT, {**sizes("bert", 1), "vocab_size": 20}, 1, own_head=False, num_labels=5)
    assert families.head(model).out_features == 5 and model.config.num_labels == 5
