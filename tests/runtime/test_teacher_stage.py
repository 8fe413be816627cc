"""The teacher stage: built once, or looked at and referenced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from distilc.compiler.extensions.families import tasks_of
from distilc.compiler.resolve.fingerprint import Fingerprints
from distilc.compiler.resolve.model_config import architecture_of
from distilc.compiler.resolve.scratch import from_scratch, scratch_config
from distilc.compiler.spec.experiment import Architecture
from distilc.runtime.execution.context import Context, Journal, Progress
from distilc.runtime.execution.store import Store
from distilc.runtime.failure import Failure
from distilc.runtime.files.integrity import Hashes, model_files, require_model
from distilc.runtime.files.integrity import fingerprint as fingerprint_of
from distilc.runtime.models.build import build, check_names, construct
from distilc.runtime.models.families import count_parameters, family_of, head_is_tied
from distilc.runtime.models.load import load_model, load_tokenizer, model_folder
from distilc.runtime.models.save import save_model
from distilc.runtime.plan.plan import Execution, Stage
from distilc.runtime.plan.settings import TeacherSettings
from distilc.runtime.stages.teacher import run

TOKENIZERS = Path(__file__).parents[2].parent / "shared" / "tokenizers"
FAMILIES = ("bart", "mbart", "pegasus", "marian", "t5")
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def teacher_stage(tmp_path):
    """Runs a teacher stage; returns its folder and summary."""

    def start(settings, inputs=None, locations=None, offline=True):
        execution = Execution(
            locations=locations or {}, micro_batch_tokens=None, save_minutes=None, deepspeed=None
        )
        stage = Stage(
            id="teacher", kind="teacher", key="0" * 64, needs={}, settings=settings, execution=execution
        )
        folder = tmp_path / "artifact"
        folder.mkdir()
        context = Context(
            plan=SimpleNamespace(site=SimpleNamespace(offline=offline)), stage=stage, folder=folder,
            scratch=tmp_path / "scratch", inputs=inputs or {}, rank=0, world=1, device="cpu",
            journal=Journal(None), progress=Progress(None, "teacher"),
        )  # fmt: skip
        return folder, run(stage, context)

    return start


def settings(family="bart", **changes):
    values = {"kind": "folder", "family": family, "config": None, "seed": None, "fingerprint": "f" * 64,
              "repository": None, "revision": None, "num_labels": None, "parameters": 0}  # fmt: skip
    return TeacherSettings(**{**values, **changes})


def parameters_of(folder):
    return architecture_of(json.loads((folder / "config.json").read_text())).parameters


# --- architecture --------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_an_architecture_becomes_a_plain_model_folder(
    family, teacher_stage, tiny_architecture, tiny_tokenizer_folder
):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    config = tiny_architecture(family, 3, 2)
    parameters = architecture_of({"model_type": family, **config}).parameters
    folder, summary = teacher_stage(
        settings(family, kind="architecture", config=config, seed=5, parameters=parameters),
        inputs={"tokenizer": tiny_tokenizer_folder(family)},
    )
    assert summary == {"family": family, "parameters": parameters, "encoder_layers": 3, "decoder_layers": 2}
    assert model_folder(folder) == folder
    model, report = AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    generation = model.generation_config
    assert generation.pad_token_id == model.config.pad_token_id == tokenizer.pad_token_id
    assert generation.eos_token_id == tokenizer.eos_token_id
    assert generation.num_beams == 1 and generation.max_length == (512 if family == "t5" else 64)
    start = {"bart": "</s>", "mbart": "de_DE"}.get(family, "<pad>")
    assert generation.decoder_start_token_id == tokenizer.convert_tokens_to_ids(start)
    assert generation.forced_eos_token_id == (None if family == "t5" else tokenizer.eos_token_id)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_seed_alone_draws_the_weights(family, tiny_architecture, tiny_tokenizer_folder):
    tokenizer = load_tokenizer(tiny_tokenizer_folder(family))
    config = tiny_architecture(family, 2, 1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = build(family, config, 3, tokenizer)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = build(family, config, 3, tokenizer), build(family, config, 4, tokenizer)
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(first.get_input_embeddings().weight, other.get_input_embeddings().weight)
    assert first.dtype == torch.float32


@pytest.mark.parametrize(("family", "name"), [("marian", "marian_en_mg"), ("pegasus", "pegasus")])
def test_real_tokenizers_come_along_unchanged(family, name, tiny_architecture, tmp_path):
    source = TOKENIZERS / name
    if not source.is_dir():
        pytest.skip(f"{source} is not there")
    tokenizer = load_tokenizer(source)
    model = build(family, {**tiny_architecture(family, 1, 1), "vocab_size": len(tokenizer)}, 1, tokenizer)
    save_model(model, tmp_path, tokenizer=source)
    saved = load_tokenizer(tmp_path)
    text = "The council approved a new bridge."
    assert type(saved) is type(tokenizer)
    assert saved(text).input_ids == tokenizer(text).input_ids
    assert saved(text_target=text).input_ids == tokenizer(text_target=text).input_ids
    assert load_model(tmp_path).config.pad_token_id == saved.pad_token_id


def test_t5_v1_1_is_built_with_its_own_head(tiny_architecture, tiny_tokenizer_folder):
    config = {**tiny_architecture("t5", 1, 1), "tie_word_embeddings": False}
    model = build("t5", config, 1, load_tokenizer(tiny_tokenizer_folder("t5")))
    assert not head_is_tied(model) and model.config.scale_decoder_outputs is False
    assert count_parameters(model) == architecture_of({"model_type": "t5", **config}).parameters


REFUSED = {
    "a mistyped field": ({"encoder_layer": 2}, "R227", "encoder_layer: a bart config has no such field"),
    "heads that do not divide": ({"encoder_attention_heads": 3}, "R227", "bart takes no such architecture"),
    "a wrong type": ({"d_model": "wide"}, "R227", "bart takes no such architecture"),
    "too few rows": ({"vocab_size": 120}, "R228", "the tokenizer has 160 tokens, the model 120"),
    "another pad": (
        {"pad_token_id": 0},
        "R228",
        "pad_token_id is 0 in the architecture and 1 in the tokenizer",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_architectures_that_do_not_fit_are_refused(case, tiny_architecture, tiny_tokenizer_folder):
    change, code, message = REFUSED[case]
    config = {**tiny_architecture("bart", 1, 1), **change}
    with pytest.raises(Failure, match=message) as caught:
        build("bart", config, 1, load_tokenizer(tiny_tokenizer_folder("bart")))
    assert caught.value.code == code


@pytest.mark.parametrize("family", from_scratch())
def test_what_the_compiler_writes_for_a_scratch_model_is_known(family):
    architecture = Architecture(
        family=family, encoder_layers=2, decoder_layers=1 if len(family_of(family).stacks) > 1 else None, d_model=16,
        heads=2, ffn_dim=32, dropout=0.1, max_positions=64,
    )  # fmt: skip
    config = scratch_config(architecture, 100)
    check_names(family_of(family), config)
    for task in tasks_of(family):
        num_labels = {"classification": 3, "regression": 1}.get(task)
        model = construct(family_of(family), config, 1, own_head=False, num_labels=num_labels)
        facts = architecture_of({"model_type": family, **config}, task, num_labels)
        assert count_parameters(model) == facts.parameters


def test_mbart_needs_a_target_language(tiny_architecture, tiny_tokenizer_folder):
    tokenizer = load_tokenizer(tiny_tokenizer_folder("mbart"))
    tokenizer.tgt_lang = None
    with pytest.raises(Failure, match="the token of the target language"):
        build("mbart", tiny_architecture("mbart", 1, 1), 1, tokenizer)


def test_a_count_that_is_not_the_plans_is_refused(teacher_stage, tiny_architecture, tiny_tokenizer_folder):
    chosen = settings(
        "bart", kind="architecture", config=tiny_architecture("bart", 1, 1), seed=5, parameters=99
    )
    with pytest.raises(Failure, match="parameters, not 99") as caught:
        teacher_stage(chosen, inputs={"tokenizer": tiny_tokenizer_folder("bart")})
    assert caught.value.code == "R229"


# --- an existing folder --------------------------------------------------------------------------


def test_a_folder_is_referenced_not_copied(teacher_stage, tiny_model_folder):
    source = tiny_model_folder("marian", 3, 2)
    fingerprint = Fingerprints().model(source)
    folder, summary = teacher_stage(settings("marian", parameters=parameters_of(source), fingerprint=fingerprint),
                                    locations={fingerprint: str(source)})  # fmt: skip
    assert [file.name for file in folder.iterdir()] == ["reference.json"]
    assert summary == {"family": "marian", "parameters": parameters_of(source), "encoder_layers": 3,
                       "decoder_layers": 2}  # fmt: skip
    assert model_folder(folder) == source.resolve()
    assert json.loads((folder / "reference.json").read_text())["fingerprint"] == fingerprint
    assert count_parameters(load_model(model_folder(folder))) == summary["parameters"]


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_folder_that_was_changed_since_the_plan_was_compiled_is_refused(
    name, teacher_stage, tiny_model_folder, tmp_path
):
    """By the stage that looks at it, and by every stage that reads what that stage published."""
    source = shutil.copytree(tiny_model_folder("bart"), tmp_path / "model")
    fingerprint = Fingerprints().model(source)
    chosen = settings(parameters=parameters_of(source), fingerprint=fingerprint)
    folder, _ = teacher_stage(chosen, locations={fingerprint: str(source)})
    store = Store(tmp_path / "store")
    shutil.copytree(folder, store.work("0" * 64), dirs_exist_ok=True)
    store.publish("0" * 64, kind="teacher", stage="teacher", seconds=1.0, summary={})
    assert store.folder("0" * 64)
    changed_in_place(source / name)
    with pytest.raises(Failure, match=f"{name} was changed since the plan was compiled") as caught:
        store.folder("0" * 64)
    assert (caught.value.code, caught.value.spec_path) == ("R224", "teacher")
    shutil.rmtree(folder)
    with pytest.raises(Failure, match="was changed since the plan was compiled") as caught:
        teacher_stage(chosen, locations={fingerprint: str(source)})
    assert caught.value.code == "R224" and "compile the spec again" in caught.value.hint


def changed_in_place(file):
    """One character or weight, the file as long as before."""
    content = file.read_bytes()
    file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:] if file.suffix == ".safetensors"
                     else content.replace(b" ", b"\n", 1))  # fmt: skip
    assert file.stat().st_size == len(content)


def test_a_hub_model_that_was_changed_in_its_cache_is_refused(teacher_stage, tiny_model_folder, hub_cache, tmp_path):
    snapshot = hub_cache(tiny_model_folder("bart"), "someone/tiny")
    folder, _ = teacher_stage(hub_settings(parameters=parameters_of(snapshot)))
    require_model(folder / "reference.json", Hashes())
    changed_in_place(snapshot / "model.safetensors")
    with pytest.raises(Failure, match=r"model\.safetensors was changed"):
        require_model(folder / "reference.json", Hashes())


def test_both_halves_compute_the_same_fingerprint(tmp_path):
    """Of everything that may lie in a model folder, and of two forms of the weights the same one."""
    names = ("added_tokens.json", "config.json", "generation_config.json", "merges.txt", "README.md", "source.spm",
             "special_tokens_map.json", "spiece.model", "tokenizer.json", "tokenizer_config.json", "vocab.json",
             "vocab.txt", "pytorch_model.bin")  # fmt: skip
    for name in names:
        (tmp_path / name).write_text(name, "utf-8")
    for more in ((), ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                      "model.safetensors.index.json")):  # fmt: skip
        for name in more:
            (tmp_path / name).write_text(name, "utf-8")
        hashes = {file.name: Hashes().sha256(file.name, file) for file in model_files(tmp_path)}
        assert fingerprint_of(hashes) == Fingerprints().model(tmp_path)


@pytest.mark.parametrize(("broken", "code"), [
    ("model.safetensors", "R222"), ("config.json", "R222"), ("tokenizer.json", "R226"),
])  # fmt: skip
def test_an_incomplete_folder_is_diagnosed_before_training(
    broken, code, teacher_stage, tiny_model_folder, tmp_path
):
    source = shutil.copytree(tiny_model_folder("bart"), tmp_path / "model")
    parameters = parameters_of(source)
    (source / broken).write_bytes((source / broken).read_bytes()[:-200])
    with pytest.raises(Failure, match=str(source)) as caught:
        teacher_stage(settings(parameters=parameters), locations={"f" * 64: str(source)})
    assert (caught.value.code, caught.value.spec_path) == (code, "teacher")


def test_a_folder_of_another_family_or_nowhere_is_refused(teacher_stage, tiny_model_folder, tmp_path):
    source = tiny_model_folder("mbart")
    with pytest.raises(Failure, match="is a mbart model, the plan says bart"):
        teacher_stage(settings(parameters=1), locations={"f" * 64: str(source)})
    (tmp_path / "artifact").rmdir()
    with pytest.raises(Failure, match="where the teacher's folder is"):
        teacher_stage(settings(parameters=1), locations={})


# --- the hub -------------------------------------------------------------------------------------


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty hub cache, laid out as huggingface_hub does; returns a function that puts a model into it."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))

    def put(source, repository):
        snapshot = cache / f"models--{repository.replace('/', '--')}" / "snapshots" / REVISION
        return shutil.copytree(source, snapshot)

    return put


def hub_settings(**changes):
    return settings(kind="hub", fingerprint=None, repository="someone/tiny", revision=REVISION, **changes)


def test_a_cached_hub_model_is_referenced_in_the_cache(teacher_stage, tiny_model_folder, hub_cache):
    snapshot = hub_cache(tiny_model_folder("bart"), "someone/tiny")
    folder, _ = teacher_stage(hub_settings(parameters=parameters_of(snapshot)))
    assert model_folder(folder) == snapshot.resolve()
    assert [file.name for file in folder.iterdir()] == ["reference.json"]


def test_a_local_mirror_of_a_hub_model_comes_first(teacher_stage, tiny_model_folder, hub_cache):
    mirror = tiny_model_folder("bart")
    folder, _ = teacher_stage(hub_settings(parameters=parameters_of(mirror)),
                              locations={f"someone/tiny@{REVISION}": str(mirror)})  # fmt: skip
    assert model_folder(folder) == mirror.resolve()


@pytest.mark.parametrize("cached", ["nothing", "an interrupted download"])
def test_offline_says_what_to_fetch(cached, teacher_stage, tiny_model_folder, hub_cache):
    if cached != "nothing":
        snapshot = hub_cache(tiny_model_folder("bart"), "someone/tiny")
        (snapshot / "model.safetensors").unlink()
    with pytest.raises(Failure, match="not in the local hub cache") as caught:
        teacher_stage(hub_settings(parameters=1))
    assert caught.value.code == "R243"
    assert f"hf download someone/tiny --revision {REVISION}" in caught.value.hint


def test_what_is_fetched(teacher_stage, tiny_model_folder, hub_cache, monkeypatch):
    """safetensors first; `.bin` where there is nothing else; a network that fails is a diagnosis."""
    import huggingface_hub

    wanted = []

    def download(repository, *, revision, allow_patterns=None, local_files_only=False):
        if local_files_only:
            raise FileNotFoundError("not cached")
        wanted.append(allow_patterns)
        if len(wanted) == 3:
            raise ConnectionError("no route to host")
        folder = tiny_model_folder("bart")
        if "pytorch_model.bin" not in allow_patterns:
            return str(bare)
        torch.save(load_model(folder).state_dict(), bare / "pytorch_model.bin")
        return str(bare)

    bare = hub_cache(tiny_model_folder("bart"), "someone/tiny")
    parameters = parameters_of(bare)
    (bare / "model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    folder, summary = teacher_stage(hub_settings(parameters=parameters), offline=False)
    assert summary["parameters"] == parameters and model_folder(folder) == bare.resolve()
    assert "model.safetensors" in wanted[0] and not any("bin" in pattern for pattern in wanted[0])
    assert wanted[1] == ["pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json"]
    from distilc.runtime.models.fetch import fetch

    with pytest.raises(Failure, match="no route to host") as caught:
        fetch("someone/tiny", REVISION, offline=False)
    assert caught.value.code == "R243"


def test_a_model_that_only_the_compiler_knew_is_not_guessed(hub_cache):
    from distilc.runtime.models.fetch import fetch

    with pytest.raises(Failure) as caught:
        fetch("someone/tiny", "unresolved", offline=False)
    assert caught.value.code == "R243"
    assert "compile the spec again" in caught.value.hint
