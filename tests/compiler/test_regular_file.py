"""Pipes and devices where files are expected: told at once, never waited for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from spec_texts import SMALL

from distilc.compiler.cli import distilc

SHARED = Path(__file__).parents[3] / "shared" / "models" / "facebook" / "bart-large-xsum"
STRANGE: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISTILC_SITE", raising=False)


def run(*words: Any) -> Result:
    result = CliRunner().invoke(distilc, [*map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("command", ["check", "explain", "compile"])
def test_a_spec_is_a_file(strange: str, command: str, tmp_path: Path) -> None:
    STRANGE[strange](tmp_path / "spec.yaml")
    result = run(command, "spec.yaml")
    assert result.exit_code == 1 and "E101: cannot read spec.yaml: it is not a regular file" in result.output


@pytest.mark.parametrize("strange", STRANGE)
def test_a_site_and_a_plan_are_files(strange: str, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SMALL, "utf-8")
    STRANGE[strange](tmp_path / "site.yaml")
    assert "E101: cannot read site.yaml: it is not a regular file" in run("check", "--site", "site.yaml", "spec.yaml").output
    (tmp_path / "plan").mkdir()
    STRANGE[strange](tmp_path / "plan" / "plan.json")
    assert "it is not a regular file" in run("diff", "plan/plan.json", "spec.yaml").output


@pytest.mark.skipif(not SHARED.is_dir(), reason="no model folder is there to spoil")
@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("command", ["check", "explain"])
def test_a_model_folder_holds_files(strange: str, name: str, command: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    shutil.copy(SHARED / "config.json", "model")
    (tmp_path / "model" / name).unlink(missing_ok=True)
    STRANGE[strange](tmp_path / "model" / name)
    (tmp_path / "spec.yaml").write_text(SMALL, "utf-8")
    result = run(command, "--set", "teacher={path: ./model}", "spec.yaml")
    assert result.exit_code == 1
    assert f"E502: model is not a model folder: {name} is a pipe, a device or a socket" in result.output


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("place", [
    "data.test={files: strange.jsonl}",
    "baselines.other={predictions: strange.jsonl}",
    "pseudo_labels.own={file: strange.jsonl}",
])  # fmt: skip
def test_data_are_files(strange: str, place: str, tmp_path: Path) -> None:
    STRANGE[strange](tmp_path / "strange.jsonl")
    (tmp_path / "spec.yaml").write_text(SMALL, "utf-8")
    targets = ["--set", "targets=[own]"] if "labels" in place else []
    result = run("check", "--data", "--set", place, *targets, "spec.yaml")
    assert result.exit_code == 1 and " is a pipe, a device or a socket" in result.output


def test_a_revision_leads_nowhere_out_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distilc.compiler.resolve.hub import cached_commit

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    refs = tmp_path / "hub" / "models--org--name" / "refs"
    refs.mkdir(parents=True)
    for file in (refs / "main", tmp_path / "hub" / "outside"):
        file.write_text("0" * 40)
    os.mkfifo(refs / "pipe")
    assert cached_commit("models", "org/name", "main") == "0" * 40
    assert cached_commit("models", "org/name", "../../outside") is None
    assert cached_commit("models", "org/name", "pipe") is None
