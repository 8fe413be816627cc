"""The table of families against the models that transformers builds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from distilc.runtime.failure import Failure
from distilc.runtime.models import families
from distilc.runtime.models.load import load_model

EVERY = tuple(name for name, row in families.FAMILIES.items() if row.decoder_start is not None)  # that write


def test_the_families_are_there():
    assert EVERY == ("bart", "mbart", "pegasus", "marian", "t5")
    assert {*families.FAMILIES} - {*EVERY} == {"bert", "roberta", "distilbert"}


@pytest.mark.parametrize("family", EVERY)
def test_stacks_are_counted_apart(family, tiny_model_folder):
    model = load_model(tiny_model_folder(family, 3, 2))
    assert families.depths(model) == {"encoder": 3, "decoder": 2}
    assert families.stack_of(model, "decoder") is model.get_decoder()
    row = families.family_of(model)
    assert [getattr(model.config, field) for field in row.depths.values()] == [3, 2]


@pytest.mark.parametrize("family", EVERY)
def test_every_parameter_of_a_layer_has_a_place_and_no_other_has(family, tiny_model_folder):
    model = load_model(tiny_model_folder(family, 3, 2))
    row = families.family_of(model)
    in_layers = {id(p) for stack in families.stacks(model) for p in families.layers(model, stack).parameters()}
    for name, parameter in model.named_parameters():
        found = families.place(row, name)
        assert (found is not None) == (id(parameter) in in_layers), name
        if found is not None:
            assert families.parameter_name(row, found) == name
            assert (
                dict(families.layers(model, found.stack)[found.layer].named_parameters())[found.name]
                is parameter
            )


@pytest.mark.parametrize("family", EVERY)
def test_norms_and_embeddings_are_where_the_row_says(family, tiny_model_folder):
    """Outside the layers are the embeddings, positions and norms that the row names, and nothing else."""
    model = load_model(tiny_model_folder(family))
    row = families.family_of(model)
    named = {
        id(p) for m in (*families.token_embeddings(model), *families.positions(model)) for p in m.parameters()
    }
    norms = {
        f"{stack}.{norm}.{kind}"
        for stack in row.stacks.values() for norm in (row.embedding_norm, row.final_norm) if norm is not None
        for kind in (("weight",) if family == "t5" else ("weight", "bias"))
    }  # fmt: skip
    outside = {name: p for name, p in model.named_parameters() if families.place(row, name) is None}
    assert {name for name, p in outside.items() if id(p) not in named} == norms
    assert len(families.token_embeddings(model)) == 3
    assert len(families.positions(model)) == (0 if family == "t5" else 2)


@pytest.mark.parametrize("family", EVERY)
def test_only_the_first_layer_owns_what_the_row_says(family, tiny_model_folder):
    model = load_model(tiny_model_folder(family))
    row = families.family_of(model)
    for stack in families.stacks(model):
        first, second = (
            set(dict(layer.named_parameters())) for layer in list(families.layers(model, stack))[:2]
        )
        assert first - second == set(row.first_layer_only)


def test_head_tied_and_scaled(tiny_model_folder):
    t5 = load_model(tiny_model_folder("t5"))
    own = load_model(tiny_model_folder("t5", tie_word_embeddings=False))
    bart = load_model(tiny_model_folder("bart"))
    assert [families.head_is_tied(model) for model in (t5, own, bart)] == [True, False, True]
    assert [families.head_scale(model) for model in (t5, own, bart)] == [0.25, 1.0, 1.0]  # 16 ** -0.5


def test_a_shared_parameter_counts_once_and_a_partitioned_one_whole(tiny_model_folder):
    model = load_model(tiny_model_folder("bart", 1, 1))
    assert (
        families.count_parameters(model)
        == model.num_parameters()
        == 160 * 16 + 2 * 66 * 16 + 64 + 2224 + 3344
    )
    assert families.num_elements(SimpleNamespace(ds_numel=12, numel=lambda: 0)) == 12


def test_an_unsupported_family_is_named_with_the_supported_ones():
    with pytest.raises(Failure) as caught:
        families.family_of(SimpleNamespace(model_type="prophetnet"))
    assert caught.value.code == "R221"
    assert "'prophetnet'" in caught.value.message and "bart, mbart, pegasus, marian, t5" in caught.value.hint
