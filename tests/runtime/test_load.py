"""Loading: what was stored, or a diagnosis. Each trap of transformers 5 has its test."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from distilc.runtime.failure import Failure
from distilc.runtime.models.families import count_parameters, depths, head_is_tied, positions
from distilc.runtime.models.load import (
    load_model,
    load_tokenizer,
    model_folder,
    read_config,
    stored_parameters,
)
from distilc.runtime.models.parts import check_parts
from distilc.runtime.models.weights import stored_shapes

FAMILIES = ("bart", "mbart", "pegasus", "marian", "t5")


@pytest.fixture
def copied(tiny_model_folder, tmp_path):
    """A model folder of one's own, to do harm to."""

    def copy(family: str, *layers: int, **config):
        return shutil.copytree(tiny_model_folder(family, *layers, **config), tmp_path / "model")

    return copy

def edit(file, change):
    tree = json.loads(file.read_text())
    change(tree)
    file.write_text(json.dumps(tree))


def code_of(call, *arguments, **keywords) -> str:
    with pytest.raises(Failure) as caught:
        call(*arguments, **keywords)
    assert caught.value.hint
    return f"{caught.value.code}: {caught.value.message}"


@pytest.mark.parametrize("family", FAMILIES)
def test_loaded_is_stored(family, tiny_model_folder):
    folder = tiny_model_folder(family, 3, 2)
    model = load_model(folder)
    stored = load_file(folder / "model.safetensors")
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in stored.items())
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert load_tokenizer(folder).pad_token_id == model.config.pad_token_id


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_checkpoint_gives_fp32_weights(family, copied):
    folder = copied(family)
    stored = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    edit(folder / "config.json", lambda tree: tree.update(dtype="float16"))
    model = load_model(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.dtype == torch.float32
    assert {parameter.dtype for parameter in load_model(folder, precision="bf16").parameters()} == {
        torch.bfloat16
    }


def test_the_legacy_layer_count_does_not_win(copied):
    """With encoder_layers 3 and num_hidden_layers 5, plain loading builds five layers, two of them random."""
    from transformers import AutoModelForSeq2SeqLM

    folder = copied("bart", 3, 2)
    edit(folder / "config.json", lambda tree: tree.update(num_hidden_layers=5))
    assert len(AutoModelForSeq2SeqLM.from_pretrained(folder).model.encoder.layers) == 5
    assert depths(load_model(folder)) == {"encoder": 3, "decoder": 2}
    assert stored_parameters(folder) == count_parameters(load_model(folder))


def test_the_legacy_layer_count_alone_is_read(copied):
    folder = copied("bart", 3, 2)
    edit(folder / "config.json", lambda tree: tree.update(num_hidden_layers=tree.pop("encoder_layers")))
    assert depths(load_model(folder)) == {"encoder": 3, "decoder": 2}


@pytest.mark.parametrize(
    ("depth", "complaint"), [(4, "lack model.encoder.layers.3"), (2, "hold model.encoder.layers.2")]
)
def test_a_depth_that_is_not_the_weights_is_refused(depth, complaint, copied):
    folder = copied("bart", 3, 2)
    edit(folder / "config.json", lambda tree: tree.update(encoder_layers=depth))
    said = code_of(load_model, folder)
    assert said.startswith("R225") and complaint in said
    assert code_of(stored_parameters, folder).startswith("R225")


def test_missing_learned_positions_are_refused_and_computed_ones_are_not(copied, tiny_model_folder):
    folder = copied("mbart")
    stored = load_file(folder / "model.safetensors")
    del stored["model.encoder.embed_positions.weight"]
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    assert "lack model.encoder.embed_positions.weight" in code_of(load_model, folder)
    assert "lack model.encoder.embed_positions.weight" in code_of(stored_parameters, folder)

    marian = tiny_model_folder("marian")
    assert not any("embed_positions" in name for name in load_file(marian / "model.safetensors"))
    table = load_model(marian).model.encoder.embed_positions.weight
    assert torch.equal(table[0], torch.tensor([0.0] * 8 + [1.0] * 8))  # sin 0, then cos 0
    torch.testing.assert_close(table[3, 1], torch.sin(torch.tensor(3 / 10000 ** (2 / 16))))


@pytest.mark.parametrize("family", ["pegasus", "marian"])
def test_sinusoidal_positions_are_frozen_after_loading(family, tiny_model_folder):
    from transformers import AutoModelForSeq2SeqLM

    plain = AutoModelForSeq2SeqLM.from_pretrained(tiny_model_folder(family))
    assert plain.model.encoder.embed_positions.weight.requires_grad  # the trap
    assert not any(module.weight.requires_grad for module in positions(load_model(tiny_model_folder(family))))


@pytest.mark.parametrize("keep", [3, 100, 20_000, -1])
def test_truncated_weights_are_diagnosed(keep, copied):
    folder = copied("bart")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    said = code_of(load_model, folder)
    assert said.startswith(f"R222: truncated model folder {folder}: model.safetensors")
    assert code_of(stored_parameters, folder) == said


def test_a_missing_shard_and_missing_files_are_diagnosed(copied):
    folder = copied("bart")
    (folder / "model.safetensors").unlink()
    assert "neither model.safetensors nor pytorch_model.bin" in code_of(load_model, folder)
    index = {"weight_map": {"model.shared.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00001-of-00002.safetensors is missing" in code_of(load_model, folder)
    (folder / "config.json").write_text("{")
    assert code_of(load_model, folder).startswith("R222: truncated model folder")
    (folder / "config.json").unlink()
    assert "config.json is missing" in code_of(load_model, folder)


def test_a_pickled_checkpoint_is_loaded_and_an_unsafe_one_refused(copied):
    folder = copied("t5", tie_word_embeddings=False)
    stored = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(stored, folder / "pytorch_model.bin")
    model = load_model(folder)
    assert torch.equal(model.lm_head.weight, stored["lm_head.weight"])
    assert stored_parameters(folder) == count_parameters(model)

    whole = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(whole[: len(whole) // 2])
    assert code_of(load_model, folder).startswith("R222")

    marker = folder / "ran"
    torch.save({"x": Runs(str(marker))}, folder / "pytorch_model.bin")
    for reading in (load_model, stored_parameters, stored_shapes):
        said = code_of(reading, folder)
        assert said.startswith(f"R223: {folder / 'pytorch_model.bin'} is a pickle that holds more than tensors"), said
    with pytest.raises(Failure) as caught:
        stored_shapes(folder)
    assert caught.value.hint.startswith("convert it to safetensors")
    assert not marker.exists()


class Runs:
    """Unpickled without care, it writes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("family", FAMILIES)
def test_counting_without_loading(family, tiny_model_folder):
    folder = tiny_model_folder(family, 3, 2)
    assert stored_parameters(folder) == count_parameters(load_model(folder))


def test_an_untied_t5_stays_untied_and_unscaled(tiny_model_folder):
    folder = tiny_model_folder("t5", tie_word_embeddings=False)
    model = load_model(folder)
    assert not head_is_tied(model) and model.config.scale_decoder_outputs is False
    tied = stored_parameters(tiny_model_folder("t5"))
    assert stored_parameters(folder) == count_parameters(model) == tied + 160 * 16


def test_generation_parameters_of_an_old_config_are_kept(copied):
    folder = copied("bart")
    (folder / "generation_config.json").unlink()
    tasks = {"summarization": {"length_penalty": 2.0, "max_length": 142, "prefix": "x"}}
    edit(
        folder / "config.json",
        lambda tree: tree.update(
            num_beams=6, max_length=62, no_repeat_ngram_size=3, task_specific_params=tasks
        ),
    )
    generation = load_model(folder).generation_config
    assert (generation.num_beams, generation.no_repeat_ngram_size, generation.length_penalty) == (6, 3, 2.0)
    assert generation.max_length == 62  # what stands in the config itself has precedence
    tasks["translation_en_to_de"] = {"num_beams": 4}  # two tasks: which is meant is not known
    edit(folder / "config.json", lambda tree: tree.update(task_specific_params=tasks))
    assert load_model(folder).generation_config.length_penalty in (None, 1.0)


def test_a_tokenizer_without_pad_is_refused(copied):
    folder = copied("bart")
    edit(folder / "tokenizer_config.json", lambda tree: tree.pop("pad_token"))
    assert "has no padding token" in code_of(load_tokenizer, folder)
    (folder / "tokenizer.json").unlink()
    assert code_of(load_tokenizer, folder).startswith("R226: cannot load the tokenizer")


def test_an_unsupported_family_is_refused(copied):
    folder = copied("bart")
    edit(folder / "config.json", lambda tree: tree.update(model_type="fsmt"))
    assert code_of(read_config, folder).startswith("R221: models of type 'fsmt'")


def test_a_reference_is_followed_and_a_changed_folder_found(copied, tmp_path):
    folder = copied("bart")
    assert model_folder(folder) == folder
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    size = (folder / "config.json").stat().st_size
    (artifact / "reference.json").write_text(
        json.dumps({"path": str(folder), "files": {"config.json": size}})
    )
    assert model_folder(artifact) == folder
    edit(folder / "config.json", lambda tree: tree.update(dropout=0.25))
    assert code_of(model_folder, artifact).startswith("R224")
    shutil.rmtree(folder)
    assert "is gone" in code_of(model_folder, artifact)


# --- parts that do not go together -------------------------------------------------------------------


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    save_file({name: change(name, tensor.clone()) for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"})


def failure_of(call, *arguments) -> Failure:
    with pytest.raises(Failure) as caught:
        call(*arguments)
    return caught.value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_told_as_that(value, copied):
    folder = copied("bart")

    def change(name, tensor):
        if name == "model.decoder.layers.1.fc1.weight":
            tensor[0, 0] = value
        return tensor

    change_weights(folder, change)
    failure = failure_of(load_model, folder)
    assert failure.code == "R223" and "not all finite in fp32: model.decoder.layers.1.fc1.weight" in failure.message


@pytest.mark.parametrize("pickled", [False, True])
def test_weights_that_are_integers_are_refused_before_they_are_loaded(pickled, copied):
    folder = copied("t5")
    change_weights(folder, lambda name, tensor: (tensor * 100).to(torch.int64))
    if pickled:
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    failure = failure_of(stored_parameters, folder)
    assert failure.code == "R223" and "quantized" in failure.hint


@pytest.mark.parametrize("config", [False, True])
def test_an_adapter_is_to_be_merged_first(config, copied):
    folder = copied("bart")
    (folder / "model.safetensors").unlink()
    (folder / "adapter_config.json").write_text("{}")
    if not config:
        (folder / "config.json").unlink()
    for look in (load_model, stored_parameters):
        failure = failure_of(look, folder)
        assert failure.code == "R223" and "adapter" in failure.message and "merge" in failure.hint


def parts_of(folder):
    return folder, read_config(folder), load_tokenizer(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_saved_together_goes_together(family, tiny_model_folder):
    check_parts(*parts_of(tiny_model_folder(family)))


@pytest.mark.parametrize(
    ("family", "changed", "said"),
    [
        ("t5", {"decoder_start_token_id": None}, "has no decoder_start_token_id"),
        ("t5", {"vocab_size": 100}, "there is no embedding for"),
        ("pegasus", {"forced_eos_token_id": 160}, "forced_eos_token_id is 160"),
        ("marian", {"eos_token_id": 5}, "eos_token_id is 5 in the config.json"),
        ("bart", {"pad_token_id": None}, "has no pad_token_id"),
    ],
)
def test_tokens_that_do_not_fit_the_model_are_refused(family, changed, said, copied):
    folder = copied(family)
    edit(folder / "config.json", lambda tree: tree.update(changed))
    if changed.get("decoder_start_token_id", 0) is None:
        edit(folder / "config.json", lambda tree: tree.pop("decoder_start_token_id"))
    failure = failure_of(check_parts, *parts_of(folder))
    assert failure.code == "R228" and said in failure.message and failure.hint


def test_a_mask_token_may_be_one_too_many(copied):
    """A published BART has 50,264 rows and a <mask> at 50,264."""
    folder = copied("bart")
    tokenizer = load_tokenizer(folder)
    edit(folder / "config.json", lambda tree: tree.update(vocab_size=len(tokenizer)))
    tokenizer.add_special_tokens({"mask_token": "<a mask>"})
    tokenizer.save_pretrained(folder)
    check_parts(*parts_of(folder))
    tokenizer.add_tokens(["<speaker>"])
    tokenizer.save_pretrained(folder)
    assert failure_of(check_parts, *parts_of(folder)).code == "R228"
