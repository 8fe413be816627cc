"""Golden diagnostics: every spec under invalid/ prints exactly the text beside it.

A folder `<name>.packages` holds installed packages that the spec of that name sees.

`UPDATE_GOLDEN=1 pytest tests/compiler/test_invalid.py` writes the texts anew; read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from distilc.compiler.cli import distilc
from distilc.compiler.diagnostics.codes import CODES

FOLDER = Path(__file__).parent / "invalid"
SPECS = sorted(file for file in FOLDER.glob("*.yaml") if file.name != "base.yaml" and ".site" not in file.name)


@pytest.mark.parametrize("spec", SPECS, ids=[spec.stem for spec in SPECS])
def test_golden_text(
    spec: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, install: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(FOLDER)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    if (packages := spec.with_suffix(".packages")).is_dir():
        install(packages)
    first = spec.read_bytes().split(b"\n")[0].decode("utf-8", "replace")
    command = first.removeprefix("# $ distilc ") if first.startswith("# $ ") else f"check {spec.name}"
    result = CliRunner().invoke(distilc, [*command.split(), "--offline"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    golden = spec.with_suffix(".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(result.output, "utf-8")
    assert result.output == golden.read_text("utf-8")
    assert result.exit_code == (0 if spec.stem.startswith("W") else 1)
    if spec.stem in CODES:
        assert f" {spec.stem}: " in result.output


def hold_to_golden(name: str, output: str) -> None:
    golden = FOLDER / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(output, "utf-8")
    assert output == golden.read_text("utf-8") and f" {name}: " in output


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of its own, for specs that are made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    return tmp_path


def test_golden_text_of_a_file_that_is_too_large(elsewhere: Path) -> None:
    (elsewhere / "E102.yaml").write_text("# rows of data, a line each\n" * 40_000, "utf-8")
    result = CliRunner().invoke(distilc, ["check", "E102.yaml", "--offline"])
    assert result.exit_code == 1
    hold_to_golden("E102", result.output)


def test_golden_text_of_a_lock_that_moved(elsewhere: Path) -> None:
    (elsewhere / "E518.yaml").write_bytes((FOLDER / "base.yaml").read_bytes())
    compile_it = ["compile", "E518.yaml", "-o", "plans", "--offline"]
    assert CliRunner().invoke(distilc, compile_it).exit_code == 0
    result = CliRunner().invoke(distilc, [*compile_it, "--locked", "--set", "batch.examples=8"])
    assert result.exit_code == 1
    hold_to_golden("E518", result.output)


def test_golden_text_of_a_share_that_draws_no_row(elsewhere: Path) -> None:
    """The rows are counted where plans are made."""
    (elsewhere / "base.yaml").write_bytes((FOLDER / "base.yaml").read_bytes())
    spec = """\
extends: base.yaml
data: {train: {limit: 40}}
pseudo_labels: {own: {by: teacher}, other: {by: teacher, generation: {beams: 2}}}
targets: [{original: 0.01}, own, {other: 0.01}]
"""
    (elsewhere / "W583.yaml").write_text(spec, "utf-8")
    result = CliRunner().invoke(distilc, ["compile", "W583.yaml", "-o", "plans", "--offline"])
    assert result.exit_code == 0
    hold_to_golden("W583", result.stderr)


MADE = {"E102", "E518", "W583"}  # by the tests above


def test_every_code_has_a_golden_spec() -> None:
    covered = {spec.stem for spec in SPECS} | MADE
    assert set(CODES) <= covered, set(CODES) - covered


def test_no_golden_text_is_left_over() -> None:
    assert {file.stem for file in FOLDER.glob("*.txt")} == {spec.stem for spec in SPECS} | MADE
