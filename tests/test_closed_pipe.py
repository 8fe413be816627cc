"""A reader that goes, a full disk behind `>`, a closed standard output: none of them ends the work, or hides its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = f"{sys.executable} -m distilc.compiler"
SPEC = """\
version: 1
name: x
task: summarization
teacher:
  architecture: {family: marian, encoder_layers: 2, decoder_layers: 2, d_model: 32, heads: 2, ffn_dim: 64}
  tokenizer: {vocab_size: 300}
  train: {}
student: {decoder_layers: 1}
data:
  train: {builtin: bulletins, limit: 50}
  validation: {builtin: bulletins, limit: 5}
  test: {builtin: bulletins, limit: 5}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    Path("spec.yaml").write_text(SPEC, "utf-8")
    Path("bad.yaml").write_text("name: 3\n", "utf-8")


def shell(line: str) -> tuple[int, str, str]:
    """The exit code of the first command of a pipe, what the last one says, and what both complain of."""
    done = subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, timeout=120,
        env={**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("check bad.yaml | true", 1),
        ("check bad.yaml --format json | true", 1),
        ("check bad.yaml 2>&1 | true", 1),
        ("check spec.yaml | true", 0),
        ("explain bad.yaml | true", 1),
        ("explain spec.yaml | true", 0),
        ("diff spec.yaml spec.yaml --set batch.examples=8 --exit-code | true", 0),
        ("schema | true", 0),
        ("status | true", 0),
        ("run bad.yaml 2>&1 | true", 1),
        ("check bad.yaml >&- 2>&-", 1),
        ("check spec.yaml <&- >&- 2>&-", 0),
        ("status >&-", 0),
    ],
)
def test_the_exit_code_is_that_of_the_command(line: str, code: int) -> None:
    found, said, complained = shell(f"{COMMAND} {line}")
    assert found == code and said == "" and "Traceback" not in complained and "Broken" not in complained, complained


@pytest.mark.parametrize(("command", "code"), [("schema", 1), ("status", 1), ("check bad.yaml", 1)])
def test_what_could_not_be_written_is_told(command: str, code: int) -> None:
    found, _, complained = shell(f"{COMMAND} {command} > /dev/full")
    assert found == code and "cannot write to standard output: No space left on device" in complained
    assert "Traceback" not in complained


@pytest.mark.slow
def test_a_run_goes_on_when_its_reader_has_gone() -> None:
    found, said, complained = shell(f"{COMMAND} run spec.yaml --until tokenizer --in-process --workspace w | true")
    assert (found, said) == (0, "") and "Traceback" not in complained, complained
    manifests = [json.loads(file.read_text("utf-8")) for file in Path("w/store").glob("*/manifest.json")]
    assert "tokenizer" in [manifest["kind"] for manifest in manifests]


def test_names_that_no_encoding_has_are_escaped() -> None:
    name = os.fsdecode(b"caf\xe9.yaml")
    Path(name).write_text("name: é\n", "utf-8")
    for prefix in ("", "PYTHONIOENCODING=ascii "):
        found, said, complained = shell(f"{prefix}{COMMAND} check $'caf\\xe9.yaml' --format json")
        assert found == 1 and complained == ""
        assert {d["file"] for d in json.loads(said)["diagnostics"]} == {name}
        assert any("'é'" in d["message"] for d in json.loads(said)["diagnostics"])
