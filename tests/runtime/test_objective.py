"""The objective against an independent reference: plain transformers forwards, hooks on the blocks, float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from distilc.runtime.data.batches import collate
from distilc.runtime.models.families import layers
from distilc.runtime.models.freeze import freeze
from distilc.runtime.models.load import load_model
from distilc.runtime.objective.objective import Objective, factors_of
from distilc.runtime.objective.teacher import Teacher, load_teacher
from distilc.runtime.plan.settings import (
    AttentionTerm,
    HiddenTerm,
    LabelsTerm,
    LayerMaps,
    LogitsTerm,
    ObjectiveSettings,
)
from distilc.runtime.verify.quick import absurd_weights

FAMILIES = ["bart", "mbart", "pegasus", "marian", "t5", "t5-untied"]
PHI = LayerMaps(encoder=(1, 3), decoder=(1, 3))
LOGITS = LogitsTerm(weight=0.8, temperature=2.0, divergence="forward-kl", beta=None, alpha=None, positions=None)
OFF: dict[str, Any] = dict.fromkeys(("labels", "logits", "hidden", "attention", "cosine", "embedding", "phi"))
EVERYTHING = ObjectiveSettings(
    labels=LabelsTerm(weight=1.0, smoothing=0.1),
    logits=LOGITS,
    hidden=HiddenTerm(encoder=0.5, decoder=3.0, layer_norm="per-token", align="outputs"),
    attention=AttentionTerm(encoder_self=0.3, decoder_self=0.7, decoder_cross=1.1),
    cosine=0.9,
    embedding=0.2,
    phi=PHI,
    own={},
)


@pytest.fixture
def models(tiny_model_folder: Callable[..., Path]) -> Callable[..., tuple[Any, Any]]:
    """(family) -> a student of 2-2 and a teacher of 4-4 layers, in float64."""

    def pair(family: str) -> tuple[Any, Any]:
        options = {"tie_word_embeddings": False} if family == "t5-untied" else {}
        name = family.removesuffix("-untied")
        found = [load_model(tiny_model_folder(name, depth, depth, **options)).double() for depth in (2, 4)]
        for seed, model in enumerate(found):  # different models in every weight
            torch.manual_seed(seed)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.05)
        return found[0], found[1]

    return pair


def make_batch(vocabulary: int = 40) -> dict[str, torch.Tensor]:
    """Five examples of different lengths, padded on both sides."""
    torch.manual_seed(3)
    sources, targets = [6, 3, 5, 2, 6], [4, 2, 5, 1, 3]
    batch = {
        "input_ids": torch.ones(5, 6, dtype=torch.int64),
        "attention_mask": torch.zeros(5, 6, dtype=torch.int64),
        "labels": torch.full((5, 5), -100),
    }
    for i, (source, target) in enumerate(zip(sources, targets, strict=True)):
        batch["input_ids"][i, :source] = torch.randint(5, vocabulary, (source,))
        batch["attention_mask"][i, :source] = 1
        batch["labels"][i, :target] = torch.randint(5, vocabulary, (target,))
    return batch


def counts_of(batch: dict[str, torch.Tensor]) -> Any:
    return {
        "label-tokens": int((batch["labels"] != -100).sum()),
        "source-tokens": int(batch["attention_mask"].sum()),
        "examples": len(batch["labels"]),
    }


class Plain:
    """One forward of transformers, as anybody would write it, and what its blocks gave."""

    def __init__(self, model: Any, batch: dict[str, torch.Tensor]) -> None:
        model.set_attn_implementation("eager")
        self.layers: dict[str, list[torch.Tensor]] = {"encoder": [], "decoder": []}
        self.embedding = torch.empty(0)
        handles = []
        for stack, kept in self.layers.items():
            for layer in layers(model, stack):  # type: ignore[arg-type]
                handles.append(layer.register_forward_hook(lambda m, a, out, kept=kept: kept.append(first(out))))

        def keep(module: Any, arguments: Any, named: Any) -> None:
            self.embedding = arguments[0] if arguments else named["hidden_states"]

        handles.append(layers(model, "decoder")[0].register_forward_pre_hook(keep, with_kwargs=True))
        output = model(**batch, output_attentions=True, output_hidden_states=True, use_cache=False)
        for handle in handles:
            handle.remove()
        self.logits = output.logits
        self.last = output.decoder_hidden_states[-1]
        self.maps = (output.encoder_attentions, output.decoder_attentions, output.cross_attentions)


def first(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output[0]


def reference(student: Any, teacher: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every term of EVERYTHING as a mean, written down from the papers, example by example."""
    ours = Plain(student, batch)
    with torch.no_grad():
        theirs = Plain(teacher, batch)
    valid, real = batch["labels"] != -100, batch["attention_mask"].bool()
    tokens, read = int(valid.sum()), int(real.sum())
    wanted = batch["labels"][valid]
    p = torch.softmax(theirs.logits[valid] / 2, -1)
    kl = (p * (p.log() - torch.log_softmax(ours.logits[valid] / 2, -1))).sum() * 4
    found = {
        "labels": functional.cross_entropy(ours.logits[valid], wanted, label_smoothing=0.1),
        "logits": kl / tokens,
        "cosine": (1 - functional.cosine_similarity(ours.last, theirs.last, dim=-1))[valid].sum() / tokens,
        "embedding": (ours.embedding - theirs.embedding).square().mean(-1)[valid].sum() / tokens,
    }
    for name, stack, mask, number in (("encoder", "encoder", real, read), ("decoder", "decoder", valid, tokens)):
        total = torch.zeros((), dtype=torch.float64)
        for k, other in enumerate((1, 3)):
            one, two = ours.layers[stack][k], theirs.layers[stack][other]
            one, two = (functional.layer_norm(x, x.shape[-1:], eps=1e-5) for x in (one, two))
            total = total + (one - two).square().mean(-1)[mask].sum()
        found[f"hidden_{name}"] = total / number
    kinds = (("encoder_self", real, real), ("decoder_self", valid, valid), ("decoder_cross", valid, real))
    for which, (name, queries, keys) in enumerate(kinds):
        total = torch.zeros((), dtype=torch.float64)
        for k, other in enumerate((1, 3)):
            for b in range(len(batch["labels"])):
                one = ours.maps[which][k][b][:, queries[b]][:, :, keys[b]]
                two = theirs.maps[which][other][b][:, queries[b]][:, :, keys[b]]
                total = total + (one - two).square().mean(dim=(0, 2)).sum()
        found[f"attention_{name}"] = total / (read if name == "encoder_self" else tokens)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_every_term_and_its_gradient_equal_the_reference(family: str, models: Callable[..., Any]) -> None:
    student, teacher = models(family)
    batch = make_batch()
    counts = counts_of(batch)
    expected = reference(student, teacher, batch)
    objective = Objective(student, EVERYTHING, (), Teacher(teacher)).eval()
    share, raw = objective(batch, factors_of(counts, world=1))
    items = objective.items()
    assert raw.keys() == expected.keys() == objective.weights().keys()
    for name, value in expected.items():
        mean = float(raw[name]) / counts[items[name]]
        assert mean == pytest.approx(float(value.detach()), rel=1e-9), name
    total = sum(weight * expected[name] for name, weight in objective.weights().items())
    assert isinstance(total, torch.Tensor)
    assert float(share.detach()) == pytest.approx(float(total.detach()), rel=1e-9)
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
    wanted = torch.autograd.grad(total, parameters, allow_unused=True)
    got = torch.autograd.grad(share, parameters, allow_unused=True)
    for one, other in zip(wanted, got, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert torch.allclose(one, other, rtol=1e-7, atol=1e-10)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it(family: str, models: Callable[..., Any]) -> None:
    _, teacher = models(family)
    settings = ObjectiveSettings(**{**vars_of(EVERYTHING), "labels": None, "phi": LayerMaps(encoder=(0, 1, 2, 3), decoder=(0, 1, 2, 3))})
    objective = Objective(teacher, settings, (), Teacher(teacher)).eval()
    batch = make_batch()
    share, raw = objective(batch, factors_of(counts_of(batch), world=1))
    assert float(share.detach()) == pytest.approx(0.0, abs=1e-12)
    assert all(float(value) == pytest.approx(0.0, abs=1e-12) for value in raw.values())


def vars_of(settings: ObjectiveSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in (*OFF, "own")}


@pytest.mark.parametrize("family", FAMILIES)
def test_chunks_and_cuts_and_padding_change_nothing(
    family: str, models: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from distilc.runtime.objective import head

    student, teacher = models(family)
    objective = Objective(student, EVERYTHING, (), Teacher(teacher)).eval()
    batch = make_batch()
    factors = factors_of(counts_of(batch), world=1)
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]

    def loss_and_gradient(parts: list[dict[str, torch.Tensor]]) -> tuple[float, list[torch.Tensor]]:
        for parameter in parameters:
            parameter.grad = None
        loss = 0.0
        for part in parts:
            share, _ = objective(part, factors)
            share.backward()
            loss += float(share.detach())
        return loss, [torch.zeros(1) if p.grad is None else p.grad.clone() for p in parameters]

    whole = loss_and_gradient([batch])
    monkeypatch.setattr(head, "BLOCK_BYTES", 3 * 8 * 40)  # three of the four rows of a chunk
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(head, "chunks", lambda rows, vocabulary: [(i, min(i + 4, rows)) for i in range(0, rows, 4)])
    cut = [{name: tensor[rows] for name, tensor in batch.items()} for rows in ([0, 3], [1], [4, 2])]
    padded = {
        "input_ids": functional.pad(batch["input_ids"], (0, 3), value=1),
        "attention_mask": functional.pad(batch["attention_mask"], (0, 3)),
        "labels": functional.pad(batch["labels"], (0, 2), value=-100),
    }
    for parts in ([batch], cut, [padded]):
        loss, gradient = loss_and_gradient(parts)
        assert loss == pytest.approx(whole[0], rel=1e-9)
        assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-9) for a, b in zip(gradient, whole[1], strict=True))


def test_a_frozen_equal_encoder_runs_once_and_serves_both(
    tiny_model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model_folder("marian", 4, 4)
    student = load_model(folder)
    freeze(student, ("encoder", "embeddings", "positions"))
    teacher = load_teacher(folder, student, ("encoder", "embeddings", "positions"), "fp32")
    assert teacher.shared == ("encoder",) and len(layers(teacher.model, "encoder")) == 0
    settings = ObjectiveSettings(**{**OFF, "logits": LOGITS}, own={})
    objective = Objective(student, settings, ("encoder", "embeddings", "positions"), teacher).train()
    assert not student.model.encoder.training and student.model.decoder.training and not teacher.model.training
    batch = make_batch()
    passes: list[str] = []
    student.model.encoder.register_forward_hook(lambda *_: passes.append("student"))
    teacher.model.model.encoder.register_forward_hook(lambda *_: passes.append("teacher"))
    objective.eval()
    share, _ = objective(batch, factors_of(counts_of(batch), world=1))
    assert passes == ["student"] and float(share.detach()) == pytest.approx(0.0, abs=1e-6)


def test_a_student_with_its_own_encoder_never_feeds_the_teacher(tiny_model_folder: Callable[..., Path]) -> None:
    student = load_model(tiny_model_folder("marian", 2, 4))
    freeze(student, ())
    assert not load_teacher(tiny_model_folder("marian", 4, 4), student, (), "fp32").shared
    same = load_model(tiny_model_folder("marian", 4, 4))
    freeze(same, ())  # equal, and about to change
    assert not load_teacher(tiny_model_folder("marian", 4, 4), same, (), "fp32").shared
    with torch.no_grad():
        next(same.model.encoder.layers.parameters()).add_(0.01)
    freeze(same, ("encoder",))  # frozen, and another one
    assert not load_teacher(tiny_model_folder("marian", 4, 4), same, ("encoder",), "fp32").shared


def test_the_code_of_2020_compared_inputs(models: Callable[..., Any]) -> None:
    student, teacher = models("bart")
    hidden = HiddenTerm(encoder=0.0, decoder=1.0, layer_norm="none", align="inputs")
    settings = ObjectiveSettings(**{**OFF, "hidden": hidden, "phi": LayerMaps(encoder=None, decoder=(1, 3))}, own={})
    batch = make_batch()
    ours, theirs = Plain(student, batch), Plain(teacher, batch)
    valid = batch["labels"] != -100
    # input of layer 0 is the embedding, input of layer k the output of layer k - 1
    pairs = [(ours.embedding, theirs.layers["decoder"][0]), (ours.layers["decoder"][0], theirs.layers["decoder"][2])]
    expected = sum(float((a - b).square().mean(-1)[valid].sum().detach()) for a, b in pairs)
    _, raw = Objective(student, settings, (), Teacher(teacher)).eval()(
        batch, factors_of(counts_of(batch), world=1)
    )
    assert float(raw["hidden_decoder"]) == pytest.approx(expected, rel=1e-9)


def test_a_narrower_student_gets_projections_that_are_no_part_of_it(tiny_model_folder: Callable[..., Path]) -> None:
    student = load_model(tiny_model_folder("bart", 2, 2, d_model=8))
    teacher = load_model(tiny_model_folder("bart", 4, 4))
    objective = Objective(student, ObjectiveSettings(**{**vars_of(EVERYTHING), "attention": None}), (), Teacher(teacher))
    assert objective.projections.num_parameters == 4 * 8 * 16
    batch = make_batch()
    share, raw = objective(batch, factors_of(counts_of(batch), world=1))
    share.backward()
    assert all(matrix.weight.grad is not None for matrix in objective.projections.matrices.values())
    assert "hidden_decoder" in raw and not any("projections" in name for name in student.state_dict())


def test_a_batch_without_labels_contributes_nothing_and_still_has_a_graph(models: Callable[..., Any]) -> None:
    student, teacher = models("marian")
    objective = Objective(student, EVERYTHING, (), Teacher(teacher)).eval()
    batch = make_batch()
    batch["labels"][:] = -100
    factors = factors_of({"label-tokens": 7, "source-tokens": 9, "examples": 3}, world=2)
    share, raw = objective(batch, factors)
    share.backward()
    assert all(float(value) == 0.0 for name, value in raw.items() if "encoder" not in name)


@pytest.mark.parametrize("attention", [True, False], ids=["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_rank_without_examples_adds_nothing(family: str, attention: bool, models: Callable[..., Any]) -> None:
    """The row that it runs counts in no term, of no family, and what it gives to any gradient is exactly 0."""
    student, teacher = models(family)
    settings = EVERYTHING if attention else replace(EVERYTHING, attention=None)
    objective = Objective(student, settings, (), Teacher(teacher)).eval()
    batch = make_batch()
    nothing = collate(None, [], student.config.pad_token_id)  # type: ignore[arg-type]
    factors = factors_of(counts_of(batch), 1)

    def gradients(*batches: Any) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
        objective.zero_grad()
        terms = []
        for part in batches:
            share, raw = objective(part, factors)
            share.backward()
            terms.append(raw)
        return {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}, terms

    alone, _ = gradients(batch)
    both, (_, raw) = gradients(batch, nothing)
    assert set(raw) == set(objective.weights()) and {name: float(value) for name, value in raw.items()} == dict.fromkeys(raw, 0.0)
    assert alone.keys() == both.keys() and all(torch.equal(alone[name], both[name]) for name in alone)
    assert objective.label_loss(nothing).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("factor", [1.0, 1e5, 1e20])
def test_weights_of_no_training_are_told_apart_from_a_fault(factor: float, models: Callable[..., Any]) -> None:
    student, _ = models("t5")
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(factor)
    settings = ObjectiveSettings(**{**OFF, "labels": LabelsTerm(weight=1.0, smoothing=0.0)}, own={})
    failure = absurd_weights(Objective(student.float(), settings, ()).eval(), make_batch())
    assert (failure is None) == (factor == 1.0)
    if failure is not None:
        assert failure.code == "R319" and "no trained model's" in failure.message
