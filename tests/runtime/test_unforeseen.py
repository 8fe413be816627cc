"""A full disk is told as one, whoever met it and in whatever words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distilc.runtime.execution.store import Store
from distilc.runtime.execution.unforeseen import is_full, try_space, unforeseen
from distilc.runtime.failure import Failure
from distilc.runtime.signals.layout import create

KEY = "a" * 64


@pytest.fixture
def full_disk(small_disk: Callable[[Path], None], tmp_path: Path) -> Path:
    """A small disk with all its room taken."""
    folder = tmp_path / "disk"
    small_disk(folder)
    with contextlib.suppress(OSError):
        (folder / "rest").write_bytes(bytes(4 << 20))
    return folder


def by_torch(folder: Path) -> None:
    torch.save({"weights": torch.ones(100_000)}, folder / "weights.pt")


def by_safetensors(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weights": torch.ones(100_000)}, folder / "weights.safetensors")


def by_transformers(folder: Path) -> None:
    from transformers import BartConfig, BartForConditionalGeneration

    config = BartConfig(vocab_size=600, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=8,
                        decoder_ffn_dim=8, encoder_attention_heads=1, decoder_attention_heads=1)  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(folder)


def by_numpy(folder: Path) -> None:
    np.save(folder / "rows.npy", np.ones(100_000))


def by_python(folder: Path) -> None:
    (folder / "labels.jsonl").write_text("x" * 100_000, "utf-8")


def by_signals(folder: Path) -> None:
    create(folder / "last.npy", 1000, 100, np.dtype("<f4"))


def by_the_store(folder: Path) -> None:
    Store(folder).publish(KEY, kind="data", stage="data", seconds=1.0, summary={"line": "x" * 100_000})


def by_sqlite(folder: Path) -> None:
    import sqlite3

    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute("create table t (text)")
        database.executemany("insert into t values (?)", [("x" * 1000,)] * 1000)


@pytest.mark.parametrize(
    "write",
    [by_torch, by_safetensors, by_transformers, by_numpy, by_python, by_signals, by_the_store, by_sqlite],
)
def test_a_full_disk(write: Any, full_disk: Path) -> None:
    with pytest.raises(Exception) as caught:
        write(full_disk)
    found = unforeseen(caught.value, memory="", kept=lambda: "the log")
    assert (found.code, found.exit_code) == ("R402", 1), caught.value
    assert "make room" in found.hint.lower()


def test_whether_a_disk_is_full_is_tried(full_disk: Path, tmp_path: Path) -> None:
    try_space(tmp_path)
    with pytest.raises(OSError) as caught:
        try_space(full_disk)
    assert is_full(caught.value) and str(full_disk) in unforeseen(caught.value, memory="", kept=str).message


def test_what_is_no_full_disk_is_not_told_as_one() -> None:
    assert not is_full(PermissionError(13, "Permission denied"))
    assert unforeseen(RuntimeError("shapes differ"), memory="", kept=lambda: "the log").code == "R999"
    assert unforeseen(MemoryError("bad_alloc"), memory="less", kept=str).code == "R302"
    try:
        try:
            raise OSError(28, "No space left on device", "/disk/file")
        except OSError as error:
            raise Failure("R223", "cannot load") from error
    except Failure as failure:
        assert is_full(failure)
