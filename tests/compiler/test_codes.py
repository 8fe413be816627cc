"""Every code that the compiler reports is explained, and its examples do what they say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from distilc.compiler.cli import distilc
from distilc.compiler.diagnostics.codes import CODES
from distilc.compiler.pipeline import compile_spec, lower_runs
from distilc.compiler.resolve.site import SiteOptions, load_site

ROOT = Path(__file__).parents[2]
STARTER = (ROOT / "specs" / "recipes" / "sft.yaml").read_text("utf-8")
DISTILC = r"(?:; | && )?(distilc [^;&']*(?:'[^']*'[^;&]*)?)(?:; |$)"  # in a line for the shell; quotes may have any of these
EXAMPLES = [(code, kind) for code in CODES for kind in ("incorrect", "corrected")]


def reported() -> set[str]:
    """The codes in the compiler's source."""
    codes: set[str] = set()
    for file in (ROOT / "compiler").rglob("*.py"):
        codes.update(re.findall(r'"([EW]\d{3})"', file.read_text("utf-8")))
    return codes


def test_every_code_is_explained_and_every_explanation_is_of_a_code() -> None:
    assert reported() == set(CODES)


def test_every_code_is_a_phrase_and_sentences() -> None:
    for code, entry in CODES.items():
        assert entry.title and not entry.title.endswith("."), code
        assert entry.meaning.endswith((".", ")", "]")), code
        assert entry.incorrect != entry.corrected, code


@pytest.mark.parametrize(("code", "kind"), EXAMPLES, ids=[f"{code}-{kind}" for code, kind in EXAMPLES])
def test_example(code: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = getattr(CODES[code], kind)
    (tmp_path / "base.yaml").write_text(STARTER, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    command, _, rest = text.partition("\n") if text.startswith("$ ") else ("", "", text)
    if not rest:
        rest = STARTER
    elif not rest.startswith(("version:", "-", "%")) and "extends:" not in rest:
        rest = f"extends: base.yaml\n{rest}"
    Path("spec.yaml").write_text(rest + "\n", "utf-8")
    codes = codes_of_command(command[2:]) if command else codes_of_spec()
    assert (code in codes) == (kind == "incorrect"), codes


def codes_of_spec() -> list[str]:
    site = load_site(SiteOptions(offline=True)).site
    assert site is not None
    compiled = compile_spec(Path("spec.yaml"), (), site)
    if compiled.runs:
        _, compiled = lower_runs(compiled, site, fingerprints=False)
    return [diagnostic.code for diagnostic in compiled.diagnostics]


def codes_of_command(command: str) -> list[str]:
    """Of a line for the shell. What it says of `distilc` is done in this process, unless that is to find packages in the
    folder: it is the same code, and a hundred starts are a minute."""
    if ".dist-info" in command:
        ran = shell(command.replace("distilc ", f"{sys.executable} -m distilc.compiler "))
        assert "Traceback" not in ran.stderr, ran.stderr
        assert ran.returncode in (0, 1), ran.stdout + ran.stderr
        return codes_in(ran.stdout + ran.stderr)
    codes = []
    for part in filter(None, re.split(DISTILC, command)):
        if not part.startswith("distilc "):
            made = shell(part)
            assert made.returncode == 0, made.stderr
            continue
        result = CliRunner().invoke(distilc, shlex.split(part)[1:])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code in (0, 1), result.output
        codes += codes_in(result.output)
    return codes


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60, env={**os.environ, "NO_COLOR": "1"})


def codes_in(output: str) -> list[str]:
    return re.findall(r"^\S.*:\d+:\d+: ([EW]\d{3}):", output, re.MULTILINE)
