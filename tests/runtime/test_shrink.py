"""Layer copy: the right layers, all of them, as copies; and every trap of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from distilc.compiler.resolve.model_config import architecture_of
from distilc.runtime.failure import Failure
from distilc.runtime.models.families import (
    count_parameters,
    depths,
    head_is_tied,
    layers,
    stacks,
    token_embeddings,
)
from distilc.runtime.models.load import load_model, load_tokenizer
from distilc.runtime.models.save import save_model
from distilc.runtime.models.shrink import shrink
from distilc.runtime.plan.settings import StackInit, StudentSettings

FAMILIES = ("bart", "mbart", "pegasus", "marian", "t5")
ALL_MODELS = [*((family, {}) for family in FAMILIES), ("t5", {"tie_word_embeddings": False})]
each_model = pytest.mark.parametrize(("family", "config"), ALL_MODELS, ids=[*FAMILIES, "t5-v1.1"])
IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])


def settings_for(
    folder,
    encoder,
    decoder,
    *,
    encoder_origin="teacher",
    decoder_origin="teacher",
    embeddings="teacher",
    seed=None,
    **widths,
) -> StudentSettings:
    """As the compiler makes them; a stack given as a number is random and has that many layers."""
    teacher = architecture_of(json.loads((folder / "config.json").read_text()))
    num_layers = [stack if isinstance(stack, int) else len(stack) for stack in (encoder, decoder)]
    sizes = {"d_model": teacher.d_model, "heads": None, "ffn_dim": None, **widths}
    student = teacher.shrunk(encoder_layers=num_layers[0], decoder_layers=num_layers[1], **sizes)
    inits = [
        StackInit(origin=None, layers=None)
        if isinstance(stack, int)
        else StackInit(origin=origin, layers=tuple(stack))
        for stack, origin in ((encoder, encoder_origin), (decoder, decoder_origin))
    ]
    return StudentSettings(
        family=teacher.family, config=student.changes(teacher), encoder_layers=num_layers[0],
        decoder_layers=num_layers[1], embeddings=embeddings, encoder=inits[0], decoder=inits[1], seed=seed,
        num_labels=None, parameters=student.parameters,
    )  # fmt: skip


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS, decoder_input_ids=IDS).logits


def equal_layers(student, teacher, stack, pairs) -> bool:
    """Are student layers equal to teacher layers, but for what layer 0 alone owns?"""
    for layer, origin in pairs:
        ours = dict(layers(student, stack)[layer].named_parameters())
        theirs = dict(layers(teacher, stack)[origin].named_parameters())
        names = {name for name in ours if "relative_attention_bias" not in name}
        if not all(torch.equal(ours[name], theirs[name]) for name in names):
            return False
    return True


@each_model
def test_all_layers_copied_is_the_teacher(family, config, tiny_model_folder):
    folder = tiny_model_folder(family, 3, 2, **config)
    teacher = load_model(folder)
    student, report = shrink(teacher, settings_for(folder, [0, 1, 2], [0, 1]), {"teacher": teacher})
    assert torch.equal(logits(student), logits(teacher))
    assert report.parameters == count_parameters(teacher)
    assert student.generation_config.to_dict() == teacher.generation_config.to_dict()


@each_model
def test_copied_layers_are_the_listed_ones(family, config, tiny_model_folder):
    folder = tiny_model_folder(family, 3, 6, **config)
    teacher = load_model(folder)
    student, report = shrink(teacher, settings_for(folder, [0, 2], [0, 3, 5]), {"teacher": teacher})
    assert depths(student) == {"encoder": 2, "decoder": 3}
    assert equal_layers(student, teacher, "encoder", [(0, 0), (1, 2)])
    assert equal_layers(student, teacher, "decoder", [(0, 0), (1, 3), (2, 5)])
    assert [(c.stack, c.layer, c.origin, c.origin_layer) for c in report.copied] == [
        ("encoder", 0, "teacher", 0), ("encoder", 1, "teacher", 2),
        ("decoder", 0, "teacher", 0), ("decoder", 1, "teacher", 3), ("decoder", 2, "teacher", 5),
    ]  # fmt: skip
    assert len({c.sha256 for c in report.copied}) == 5
    outside = {
        name: tensor
        for name, tensor in teacher.state_dict().items()
        if ".layers." not in name and ".block." not in name
    }
    assert all(torch.equal(student.state_dict()[name], tensor) for name, tensor in outside.items())
    assert student.config.scale_decoder_outputs is not bool(config) if family == "t5" else True


@each_model
def test_the_order_of_an_explicit_list_is_kept(family, config, tiny_model_folder):
    folder = tiny_model_folder(family, 3, 3, **config)
    teacher = load_model(folder)
    student, _ = shrink(teacher, settings_for(folder, [2, 0, 1], [1, 0]), {"teacher": teacher})
    assert equal_layers(student, teacher, "encoder", [(0, 2), (1, 0), (2, 1)])
    assert equal_layers(student, teacher, "decoder", [(0, 1), (1, 0)])


@each_model
def test_repeats_are_copies(family, config, tiny_model_folder):
    folder = tiny_model_folder(family, 3, 3, **config)
    teacher = load_model(folder)
    student, report = shrink(teacher, settings_for(folder, [0, 1, 2], [0, 0, 0]), {"teacher": teacher})
    assert len({c.sha256 for c in report.copied if c.stack == "decoder"}) == 1
    assert count_parameters(student) == count_parameters(teacher)
    stack = layers(student, "decoder")
    with torch.no_grad():
        for parameter in stack[1].parameters():
            parameter.add_(1.0)
    assert equal_layers(student, teacher, "decoder", [(0, 0), (2, 0)])
    assert not equal_layers(student, teacher, "decoder", [(1, 0)])


@each_model
def test_the_student_is_no_view_of_its_teacher(family, config, tiny_model_folder):
    folder = tiny_model_folder(family, 3, 3, **config)
    teacher = load_model(folder)
    before = logits(teacher)
    student, _ = shrink(teacher, settings_for(folder, [0, 1, 2], [0, 2]), {"teacher": teacher})
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    student.generation_config.num_beams = 7
    assert torch.equal(logits(teacher), before)
    assert teacher.generation_config.num_beams == 1


@each_model
def test_saved_students_generate_with_cache_in_plain_transformers(
    family, config, tiny_model_folder, tmp_path
):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = tiny_model_folder(family, 3, 3, **config)
    teacher = load_model(folder)
    teacher.generation_config.update(num_beams=3, max_length=12, length_penalty=0.5)
    student, _ = shrink(teacher, settings_for(folder, [0, 2], [2, 0]), {"teacher": teacher})
    assert student.training
    save_model(student, tmp_path, tokenizer=folder)

    plain, report = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert torch.equal(logits(plain), logits(student))
    assert "name_or_path" not in (tmp_path / "config.json").read_text()
    batch = AutoTokenizer.from_pretrained(tmp_path)(
        ["the council approved rain", "bread"], padding=True, return_tensors="pt"
    )
    batch.pop("token_type_ids", None)
    assert plain.generation_config.num_beams == 3
    cached = plain.generate(**batch, use_cache=True)
    assert torch.equal(cached, plain.generate(**batch, use_cache=False))
    assert cached.shape[1] <= 12 and (cached[:, 0] == plain.config.decoder_start_token_id).all()
    assert load_tokenizer(tmp_path).get_vocab() == load_tokenizer(folder).get_vocab()


def test_beam_settings_without_beams_are_carried(tiny_model_folder, tmp_path):
    """transformers refuses to save a changed config like this; it counts once beams are asked for."""
    folder = tiny_model_folder("bart", 2, 2)
    teacher = load_model(folder)
    teacher.generation_config.update(length_penalty=2.0, early_stopping=True)
    student, _ = shrink(teacher, settings_for(folder, [0, 1], [0]), {"teacher": teacher})
    save_model(student, tmp_path, tokenizer=folder)
    generation = load_model(tmp_path).generation_config
    assert (generation.num_beams, generation.length_penalty, generation.early_stopping) == (1, 2.0, True)


@pytest.mark.parametrize("layer", [1, 2])
def test_t5_keeps_the_position_bias_of_block_0(layer, tiny_model_folder):
    folder = tiny_model_folder("t5", 3, 3)
    teacher = load_model(folder)
    student, _ = shrink(teacher, settings_for(folder, [layer], [layer, 0]), {"teacher": teacher})
    for stack in stacks(teacher):
        ours = layers(student, stack)[0].layer[0].SelfAttention.relative_attention_bias.weight
        theirs = layers(teacher, stack)[0].layer[0].SelfAttention.relative_attention_bias.weight
        assert torch.equal(ours, theirs)
        assert equal_layers(student, teacher, stack, [(0, layer)])


def test_t5_depths_are_set_apart(tiny_model_folder):
    folder = tiny_model_folder("t5", 3, 2)
    teacher = load_model(folder)
    student, _ = shrink(teacher, settings_for(folder, [0], [0, 1]), {"teacher": teacher})
    assert (student.config.num_layers, student.config.num_decoder_layers) == (1, 2)
    assert depths(student) == {"encoder": 1, "decoder": 2}


def test_an_own_head_does_not_overwrite_the_embedding(tiny_model_folder):
    folder = tiny_model_folder("t5", 3, 3, tie_word_embeddings=False)
    teacher = load_model(folder)
    student, _ = shrink(teacher, settings_for(folder, [0, 1, 2], [0]), {"teacher": teacher})
    assert not head_is_tied(student)
    assert torch.equal(student.lm_head.weight, teacher.lm_head.weight)
    assert torch.equal(student.shared.weight, teacher.shared.weight)
    assert student.config.scale_decoder_outputs is False
    student.tie_weights(recompute_mapping=False)  # what transformers does while loading
    assert not head_is_tied(student)


@pytest.mark.parametrize("family", ["bart", "mbart", "pegasus", "marian"])
def test_untied_embeddings_stay_apart(family, tiny_model_folder):
    folder = tiny_model_folder(family, 2, 2, tie_word_embeddings=False)
    teacher = load_model(folder)
    assert not head_is_tied(teacher)
    student, _ = shrink(teacher, settings_for(folder, [0, 1], [1]), {"teacher": teacher})
    ours, theirs = token_embeddings(student), token_embeddings(teacher)
    assert len({id(module.weight) for module in ours}) == 3
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(student.lm_head.weight, teacher.lm_head.weight)


def test_marian_with_two_vocabularies(tiny_model_folder):
    folder = tiny_model_folder("marian", 2, 2, share_encoder_decoder_embeddings=False, decoder_vocab_size=160)
    teacher = load_model(folder)
    student, report = shrink(teacher, settings_for(folder, [0, 1], [0]), {"teacher": teacher})
    assert len(token_embeddings(student)) == 2
    assert report.parameters == count_parameters(student)
    for a, b in zip(token_embeddings(student), token_embeddings(teacher), strict=True):
        assert torch.equal(a.weight, b.weight)


def test_final_logits_bias_is_carried(tiny_model_folder):
    folder = tiny_model_folder("marian", 2, 2)
    teacher = load_model(folder)
    teacher.final_logits_bias.copy_(torch.linspace(-1, 1, 160)[None])
    student, _ = shrink(teacher, settings_for(folder, [0, 1], [0]), {"teacher": teacher})
    assert torch.equal(student.final_logits_bias, teacher.final_logits_bias)


@each_model
def test_a_half_precision_teacher_gives_an_fp32_student(family, config, tiny_model_folder):
    folder = tiny_model_folder(family, 2, 2, **config)
    teacher = load_model(folder, precision="bf16")
    student, _ = shrink(teacher, settings_for(folder, [0, 1], [1]), {"teacher": teacher})
    assert {tensor.dtype for tensor in student.state_dict().values()} == {torch.float32}
    assert student.config.dtype == torch.float32


def test_layers_of_another_checkpoint(tiny_model_folder):
    """Decoder layers from a foreign model of another width of vocabulary; all else from the teacher."""
    folder, other = tiny_model_folder("bart", 2, 3), tiny_model_folder("bart", 4, 4, vocab_size=170)
    teacher, origin = load_model(folder), load_model(other)
    settings = settings_for(folder, [0, 1], [3, 1], decoder_origin="decoder_origin")
    student, report = shrink(teacher, settings, {"teacher": teacher, "decoder_origin": origin})
    assert equal_layers(student, origin, "decoder", [(0, 3), (1, 1)])
    assert equal_layers(student, teacher, "encoder", [(0, 0), (1, 1)])
    assert torch.equal(student.model.shared.weight, teacher.model.shared.weight)
    assert [c.origin for c in report.copied] == ["teacher", "teacher", "decoder_origin", "decoder_origin"]


@each_model
def test_a_random_decoder_is_seeded_and_the_rest_copied(family, config, tiny_model_folder):
    folder = tiny_model_folder(family, 2, 2, **config)
    teacher = load_model(folder)
    state = torch.get_rng_state()
    first, second, other = (
        shrink(teacher, settings_for(folder, [0, 1], 2, seed=seed), {"teacher": teacher})[0]
        for seed in (7, 7, 8)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits(first), logits(second))
    assert not torch.equal(logits(first), logits(other))
    assert equal_layers(first, teacher, "encoder", [(0, 0), (1, 1)])
    assert not equal_layers(first, teacher, "decoder", [(0, 0)])
    assert torch.equal(token_embeddings(first)[0].weight, token_embeddings(teacher)[0].weight)


@each_model
def test_a_narrower_student_is_random(family, config, tiny_model_folder):
    folder = tiny_model_folder(family, 2, 2, **config)
    teacher = load_model(folder)
    settings = settings_for(folder, 2, 1, embeddings="random", seed=3, d_model=8, heads=2, ffn_dim=16)
    student, report = shrink(teacher, settings, {"teacher": teacher})
    assert report.copied == () and student.config.d_model == 8
    assert head_is_tied(student) == head_is_tied(teacher)
    assert logits(student).shape == (2, 5, 160)
    copying = settings_for(folder, [0, 1], 1, seed=3, d_model=8, heads=2, ffn_dim=16)
    with pytest.raises(Failure, match="where it is copied from") as caught:
        shrink(teacher, copying, {"teacher": teacher})
    assert caught.value.code == "R241"


def decoder_from(*indices):
    return lambda settings: replace(settings, decoder=StackInit(origin="teacher", layers=indices))


BAD = {
    "parameters": (lambda s: replace(s, parameters=s.parameters + 1), "R229", "parameters, not"),
    "out of range": (decoder_from(0, 3), "R241", "no decoder layer 3"),
    "negative": (decoder_from(0, -1), "R241", "no decoder layer -1"),
    "too few": (decoder_from(0), "R241", "1 decoder layers are listed"),
    "family": (lambda s: replace(s, family="t5"), "R241", "a t5 student"),
    "config": (lambda s: replace(s, config={"decoder_layer": 2}), "R227", "a bart config has no such field"),
}


@pytest.mark.parametrize("case", BAD)
def test_settings_that_do_not_fit_are_refused(case, tiny_model_folder):
    change, code, message = BAD[case]
    folder = tiny_model_folder("bart", 3, 3)
    teacher = load_model(folder)
    with pytest.raises(Failure, match=message) as caught:
        shrink(teacher, change(settings_for(folder, [0, 1, 2], [0, 2])), {"teacher": teacher})
    assert caught.value.code == code


def test_layers_of_another_family_are_refused(tiny_model_folder):
    folder = tiny_model_folder("bart", 2, 2)
    origins = {"teacher": load_model(folder), "decoder_origin": load_model(tiny_model_folder("mbart", 2, 2))}
    settings = settings_for(folder, [0, 1], [0], decoder_origin="decoder_origin")
    with pytest.raises(Failure, match="decoder layers of a mbart model"):
        shrink(origins["teacher"], settings, origins)


def test_a_copy_that_went_wrong_is_found(tiny_model_folder, monkeypatch):
    folder = tiny_model_folder("bart", 2, 2)
    teacher = load_model(folder)
    load = type(teacher).load_state_dict

    def careless(self, state, strict=True):
        return load(
            self,
            {**state, "model.decoder.layers.0.fc1.weight": state["model.decoder.layers.0.fc1.weight"] + 1e-6},
        )

    monkeypatch.setattr(type(teacher), "load_state_dict", careless)
    with pytest.raises(Failure, match="is not what it was copied from"):
        shrink(teacher, settings_for(folder, [0, 1], [0]), {"teacher": teacher})
