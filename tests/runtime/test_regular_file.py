"""Pipes and devices where files are expected: told at once, never waited for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from distilc.runtime.data.files import SUFFIXES, read_file
from distilc.runtime.data.text_files import Layout, read_texts
from distilc.runtime.failure import Failure
from distilc.runtime.models.load import load_model, load_tokenizer

STRANGE: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("fingerprint", [None, "a" * 64])
def test_data_are_files(strange: str, suffix: str, fingerprint: str | None, tmp_path: Path) -> None:
    file = tmp_path / f"rows{suffix}"
    STRANGE[strange](file)
    with pytest.raises(Failure, match="no regular file") as told:
        list(read_file(file, fingerprint, "data.train"))
    assert told.value.code == "R201"


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_texts_are_files(strange: str, suffix: str, tmp_path: Path) -> None:
    STRANGE[strange](tmp_path / f"texts{suffix}")
    with pytest.raises(Failure, match="no regular file") as told:
        read_texts(tmp_path / f"texts{suffix}", Layout(None, (), "--column"))
    assert told.value.code == "R201"


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "generation_config.json"])
@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_a_model_folder_holds_files(
    strange: str, name: str, load: Callable[[Path], object], tmp_path: Path, tiny_model_folder: Callable[..., Path]
) -> None:
    for file in tiny_model_folder("marian").iterdir():
        if file.name != name:
            (tmp_path / file.name).symlink_to(file)
    STRANGE[strange](tmp_path / name)
    with pytest.raises(Failure, match=f"{name} is a pipe, a device or a socket") as told:
        load(tmp_path)
    assert told.value.code == "R223"
