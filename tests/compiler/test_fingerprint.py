"""Fingerprints: of contents, remembered by size and time, never of what is not part of a model."""

import hashlib
import json
import os

import pytest

from distilc.compiler.resolve.fingerprint import Fingerprints, model_files, weight_files

LONG_AGO = 1_600_000_000


def write(file, text, time=LONG_AGO):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    os.utime(file, (time, time))


def test_a_file_is_its_sha256(tmp_path):
    write(tmp_path / "rows.jsonl", "text\n")
    assert Fingerprints().file(tmp_path / "rows.jsonl") == hashlib.sha256(b"text\n").hexdigest()


def test_a_second_look_does_not_read_the_file(tmp_path):
    file, memory = tmp_path / "rows.jsonl", tmp_path / "workspace" / "fingerprints.json"
    write(file, "one")
    first = Fingerprints(memory)
    sha = first.file(file)
    first.save()
    file.write_text("two", "utf-8")
    os.utime(file, (LONG_AGO, LONG_AGO))  # same size, same time: taken from memory
    assert Fingerprints(memory).file(file) == sha
    os.utime(file, (LONG_AGO + 1, LONG_AGO + 1))
    assert Fingerprints(memory).file(file) == hashlib.sha256(b"two").hexdigest()


def test_a_file_of_this_moment_is_not_remembered(tmp_path):
    file, memory = tmp_path / "rows.jsonl", tmp_path / "fingerprints.json"
    file.write_text("one", "utf-8")
    fingerprints = Fingerprints(memory)
    fingerprints.file(file)
    fingerprints.save()
    assert not memory.exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"/x": 1}'])
def test_a_damaged_memory_is_no_harm(tmp_path, text):
    write(tmp_path / "rows.jsonl", "one")
    (tmp_path / "fingerprints.json").write_text(text, "utf-8")
    fingerprints = Fingerprints(tmp_path / "fingerprints.json")
    assert fingerprints.file(tmp_path / "rows.jsonl") == hashlib.sha256(b"one").hexdigest()
    fingerprints.save()
    assert str(tmp_path / "rows.jsonl") in json.loads((tmp_path / "fingerprints.json").read_text("utf-8"))


def test_an_unwritable_workspace_is_no_harm(tmp_path):
    write(tmp_path / "rows.jsonl", "one")
    write(tmp_path / "taken", "a file where a folder should be")
    fingerprints = Fingerprints(tmp_path / "taken" / "fingerprints.json")
    fingerprints.file(tmp_path / "rows.jsonl")
    fingerprints.save()


def test_a_model_is_its_config_tokenizer_and_weights(tmp_path):
    names = ("config.json", "generation_config.json", "tokenizer.json", "source.spm", "model.safetensors")
    for folder in ("one", "other"):
        for name in names:
            write(tmp_path / folder / name, name)
    write(tmp_path / "other" / "README.md", "not part of the model")
    write(tmp_path / "other" / "pytorch_model.bin", "the same weights once more")
    assert [file.name for file in model_files(tmp_path / "other")] == sorted(names)
    fingerprints = Fingerprints()
    assert fingerprints.model(tmp_path / "one") == fingerprints.model(tmp_path / "other")
    for name in names:
        before = fingerprints.model(tmp_path / "one")
        write(tmp_path / "one" / name, f"{name} changed")
        assert fingerprints.model(tmp_path / "one") != before


def test_weights_in_shards_and_in_the_older_form(tmp_path):
    assert weight_files(tmp_path) == []
    write(tmp_path / "pytorch_model-00001-of-00001.bin", "weights")
    write(tmp_path / "pytorch_model.bin.index.json", "{}")
    assert len(weight_files(tmp_path)) == 2
    write(tmp_path / "model-00001-of-00001.safetensors", "weights")
    write(tmp_path / "model.safetensors.index.json", "{}")
    assert [file.name for file in weight_files(tmp_path)] == [
        "model-00001-of-00001.safetensors",
        "model.safetensors.index.json",
    ]
