"""`peek`, `predict` and `evaluate`: what they hand over, and what is wrong usage."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from distilc.compiler.cli import distilc


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A starter spec, and a file of texts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    assert CliRunner().invoke(distilc, ["init", "spec.yaml"]).exit_code == 0
    Path("a.txt").write_text("x\n", "utf-8")
    return tmp_path


def handed_over(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Result, list[str] | None]:
    """The arguments that the runtime would get."""
    calls: list[list[str]] = []

    def execv(program: str, words: list[str]) -> None:
        assert program == sys.executable and words[:3] == [sys.executable, "-m", "distilc.runtime"]
        calls.append(words[3:])
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    result = CliRunner().invoke(distilc, [*arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result, calls[0] if calls else None


def test_peek_compiles_and_hands_over_the_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("sweep.yaml").write_text("extends: spec.yaml\nseeds: [1, 2]\n", "utf-8")
    _, words = handed_over(monkeypatch, "peek", "sweep.yaml", "--row", "7", "--format", "json", "--rows", "3")
    assert words is not None and words[0] == "peek" and Path(words[1], "plan.json").is_file()
    assert words[2:] == ["--rows=3", "--format=json", "--runs=2", "--row=7"]
    _, chosen = handed_over(monkeypatch, "peek", "sweep.yaml", "--only", "*seed-2*")
    assert chosen is None or chosen[1] != words[1]


def test_peek_of_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    _, words = handed_over(monkeypatch, "peek", "spec.yaml")
    assert words is not None
    _, again = handed_over(monkeypatch, "peek", words[1], "--workspace", "else")
    assert again == ["peek", words[1], "--rows=2", "--format=text", "--runs=1", "--workspace", "else"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["peek", "spec.yaml", "--row", "1", "--batch", "1"], "give one of them"),
        (["peek", ".", "--set", "name=x"], "--set does not go with the plan"),
        (["predict", "run", "nothing.txt"], "File 'nothing.txt' does not exist"),
        (["predict", "run", "a.txt", "--beams", "0"], "0 is not in the range"),
        (["evaluate", "a.txt", "nothing.txt"], "File 'nothing.txt' does not exist"),
        (["evaluate", "a.txt", "a.txt", "--metrics", "rouge1,blue"], "there is no metric 'blue' of texts or labels; did you mean bleu?"),
    ],
)
def test_wrong_usage(monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str) -> None:
    result, calls = handed_over(monkeypatch, *arguments)
    assert result.exit_code == 2 and calls is None and words in result.output


def test_predict_and_evaluate_hand_over_what_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, words = handed_over(monkeypatch, "predict", "run", "a.txt", "-o", "o.txt", "--prefix", "-x: ", "--beams", "4")
    assert words is not None and words[:3] == ["predict", "run", "a.txt"]
    assert {"--output=o.txt", "--prefix=-x: ", "--beams=4", "--engine=auto"} <= set(words)
    assert words[3].startswith("--workspace=") and len(words) == 8
    _, words = handed_over(monkeypatch, "evaluate", "a.txt", "a.txt", "--metrics", "bleu, chrf", "--metrics", "bleu")
    assert words == ["evaluate", "a.txt", "a.txt", "--metric", "bleu", "--metric", "chrf", "--format=text"]
    _, words = handed_over(monkeypatch, "evaluate", "a.txt", "--task", "translation")
    assert words == ["evaluate", "a.txt", "--task=translation", "--format=text"]
