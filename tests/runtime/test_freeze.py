"""What is frozen: by parts, after every load, in eval mode; the counts are the compiler's."""

from __future__ import annotations

import json

import pytest
import torch

from distilc.compiler.resolve.model_config import architecture_of
from distilc.runtime.failure import Failure
from distilc.runtime.models.dropout import set_dropout
from distilc.runtime.models.families import count_parameters
from distilc.runtime.models.freeze import freeze, set_train_mode
from distilc.runtime.models.load import load_model

FAMILIES = ("bart", "mbart", "pegasus", "marian", "t5")
ALL = ("encoder", "embeddings", "positions")


@pytest.mark.parametrize("parts", [(), ("encoder",), ("embeddings",), ("positions",), ALL])
@pytest.mark.parametrize("family", FAMILIES)
def test_counts_are_the_compilers(family, parts, tiny_model_folder):
    folder = tiny_model_folder(family, 3, 2)
    architecture = architecture_of(json.loads((folder / "config.json").read_text()))
    model = load_model(folder)
    report = freeze(model, parts)
    assert report.trainable == architecture.trainable(parts)
    assert report.trainable + report.frozen == count_parameters(model) == architecture.parameters


def test_counts_of_an_untied_t5(tiny_model_folder):
    folder = tiny_model_folder("t5", tie_word_embeddings=False)
    architecture = architecture_of(json.loads((folder / "config.json").read_text()))
    model = load_model(folder)
    assert freeze(model, ALL).trainable == architecture.trainable(ALL)
    assert model.lm_head.weight.requires_grad and not model.shared.weight.requires_grad


def trainable_names(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("family", ["bart", "mbart"])
def test_norms_of_the_decoder_stay_trainable(family, tiny_model_folder):
    model = load_model(tiny_model_folder(family))
    freeze(model, ALL)
    names = trainable_names(model)
    assert "model.decoder.layernorm_embedding.weight" in names
    assert ("model.decoder.layer_norm.weight" in names) == (family == "mbart")
    assert not any(name.startswith("model.encoder") for name in names)
    assert not model.lm_head.weight.requires_grad  # tied to the embedding


def test_sinusoidal_positions_are_never_trained(tiny_model_folder):
    model = load_model(tiny_model_folder("pegasus"))
    model.requires_grad_(True)
    freeze(model, ())
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        "model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight",
    }  # fmt: skip


def test_freezing_again_starts_anew_and_flags_are_not_stored(tiny_model_folder, tmp_path):
    model = load_model(tiny_model_folder("bart"))
    frozen = freeze(model, ALL)
    model.save_pretrained(tmp_path)
    assert freeze(model, ()).frozen == 0
    again = load_model(tmp_path)
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert freeze(again, ALL) == frozen


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_off_in_a_frozen_encoder_only(family, tiny_model_folder):
    model = load_model(tiny_model_folder(family))
    ids = torch.arange(3, 13).reshape(2, 5)
    set_train_mode(model, ("encoder",))
    encoder = [model.get_encoder()(input_ids=ids).last_hidden_state for _ in range(2)]
    assert torch.equal(*encoder)
    decoder = [model(input_ids=ids, decoder_input_ids=ids).logits for _ in range(2)]
    assert not torch.equal(*decoder)
    set_train_mode(model, ())
    encoder = [model.get_encoder()(input_ids=ids).last_hidden_state for _ in range(2)]
    assert not torch.equal(*encoder)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_dropout_is_that_of_hidden_states_alone(family, tiny_model_folder):
    """As a model is that was made with it; published BARTs have none in attention and activations."""
    rates = {} if family == "t5" else {"attention_dropout": 0.03, "activation_dropout": 0.07}
    model = load_model(tiny_model_folder(family, **rates))
    set_dropout(model, 0.25)
    name = "dropout_rate" if family == "t5" else "dropout"
    assert getattr(model.config, name) == 0.1  # what is saved with the student stays its teacher's
    expected = load_model(tiny_model_folder(family, **rates, **{name: 0.25}))
    for (path, module), (_, other) in zip(model.named_modules(), expected.named_modules(), strict=True):
        ours, theirs = ({n: v for n, v in vars(m).items() if isinstance(v, float)} for m in (module, other))
        assert ours == theirs, path
    ids = torch.arange(3, 13).reshape(2, 5)
    drawn = []
    for one in (model, expected):
        one.load_state_dict(expected.state_dict())
        torch.manual_seed(5)
        drawn.append(one.train()(input_ids=ids, decoder_input_ids=ids).logits)
    assert torch.equal(*drawn)


def test_an_unknown_part_is_refused(tiny_model_folder):
    with pytest.raises(Failure, match="'decoder'") as caught:
        freeze(load_model(tiny_model_folder("bart")), ("decoder",))
    assert caught.value.code == "R240"
