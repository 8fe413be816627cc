"""Text of others on its way to the terminal: one place of each half prints, and what it prints is clean."""

from __future__ import annotations

import ast
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from distilc.compiler.cli import distilc
from distilc.compiler.cli import main as compile_half
from distilc.compiler.commands import output
from distilc.runtime.commands.status import main as status
from distilc.runtime.execution.console import Console
from distilc.runtime.failure import Failure
from distilc.runtime.messages import terminal

ROOT = Path(__file__).resolve().parent.parent
PRINTING = {"compiler/commands/output.py", "compiler/commands/outlet.py", "runtime/messages/terminal.py", "runtime/messages/outlet.py"}
FILES = [file for half in ("compiler", "runtime") for file in sorted((ROOT / half).rglob("*.py"))]
ESCAPE, BELL, TURN, CSI, HALF = "\x1b[2J\x1b]0;owned\x07", "\x07", "\u202egnp.exe", "\x9b31m", "\ud83d"
HOSTILE = f"a{ESCAPE}{BELL}{TURN}{CSI}\r{HALF}\u2028\U000e0041b"


def is_clean(text: str) -> bool:
    bidi = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
    return not any(
        (character < " " and character not in "\t\n") or 0x7F <= ord(character) < 0xA0 or ord(character) in bidi
        for character in text
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nobody_else_prints(file: Path) -> None:
    if file.relative_to(ROOT).as_posix() in PRINTING:
        return
    consoles = set[str]()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "rich.console":
            consoles |= {alias.asname or alias.name for alias in node.names if alias.name == "Console"}
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in consoles, f"line {node.lineno}: see drawing_console"
            assert called not in ("print", "click.echo", "click.secho"), f"line {node.lineno}"
            assert not called.startswith(("sys.stdout.write", "sys.stderr.write")), f"line {node.lineno}"


@pytest.mark.parametrize("tell", [output.tell, terminal.tell])
def test_control_characters_are_written_as_escapes(tell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tell(f"{HOSTILE}\tkept\n")
    written = capsys.readouterr().out
    assert is_clean(written) and written.startswith("a\\u001b[2J\\u001b]0;owned\\u0007\\u0007\\u202egnp.exe\\u009b31m")
    assert "\\u000d\\ud83d\\u2028\\udb40\\udc41b\tkept\n" in written
    tell(json.dumps({"name": f"{HOSTILE} नमस्ते \u200d é"}, ensure_ascii=False))
    again = capsys.readouterr().out
    assert is_clean(again) and "नमस्ते \u200d é" in again  # a joiner is a letter of Nepali
    assert json.loads(again) == {"name": f"{HOSTILE} नमस्ते \u200d é"}


@pytest.mark.parametrize("tell", [output.tell, terminal.tell])
def test_colours_of_ours_stay(tell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tell("\x1b[31mred\x1b[0m\x1b[2J", color=True)
    assert capsys.readouterr().out.rstrip("\n") == "\x1b[31mred\x1b[0m\\u001b[2J"


def test_what_is_drawn_is_clean_as_well() -> None:
    from rich.table import Table
    from rich.text import Text

    stream = io.StringIO()
    console = terminal.drawing_console(file=stream, force_terminal=True, width=200)
    table = Table()
    table.add_column(HOSTILE)
    table.add_row(Text(HOSTILE, "bold"))
    console.print(table)
    console.print(HOSTILE, markup=False)
    drawn = stream.getvalue()
    assert "\x1b[1m" in drawn  # bold is ours
    assert is_clean(terminal._COLORS.sub("", drawn)) and "\\u001b[2J" in drawn


# --- as it comes from users' files -------------------------------------------------------------------

SPEC = """
version: 1
name: small
task: summarization
teacher:
  architecture: {family: marian, encoder_layers: 3, decoder_layers: 6, d_model: 64, heads: 4, ffn_dim: 128}
  tokenizer: {vocab_size: 500}
  train: {}
student: {decoder_layers: 2}
data: {train: {files: rows.jsonl}, validation: {files: rows.jsonl}, test: {files: rows.jsonl}}
"""


@pytest.mark.parametrize("form", ["text", "json", "github"])
def test_columns_and_values_of_a_spec(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    row = {f"source{HOSTILE}": "a", f"target{HOSTILE}": "b"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    yaml = json.dumps(HOSTILE).replace("\\ud83d", "").replace("\\udb40\\udc41", "")
    (tmp_path / "spec.yaml").write_text(SPEC + f"tracking: {{tags: {{{yaml}: 1}}}}\n{yaml}: 1\n")
    result = CliRunner().invoke(distilc, ["check", "--data", "--offline", "--format", form, "spec.yaml"])
    assert result.exit_code == 1 and "u001b" in result.output.lower()
    assert is_clean(result.output)


def test_what_was_typed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["distilc", f"chekc{ESCAPE}"])
    monkeypatch.setattr("distilc.compiler.cli.open_outlets", lambda: None)
    with pytest.raises(SystemExit) as ended:
        compile_half()
    told = capfd.readouterr().err
    assert ended.value.code == 2 and is_clean(told) and "no such command: chekc" in told


def test_names_of_plans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "runs" / f"name{ESCAPE}"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps({"format": 1, f"key{HOSTILE}": 1}))
    assert status(["--workspace", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert is_clean(told) and "unreadable" in told


def test_messages_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    place = (f"spec{ESCAPE}.yaml", 1, 1)
    console.failure(Failure("R203", f"no column {HOSTILE}", f"there is {HOSTILE}"), place)
    console.warning("R501", f"the server says {HOSTILE}", HOSTILE, place)
    with console.live() as show:
        show({"stage": "data", "title": HOSTILE, "done": 1, "total": 2, "unit": "rows", "note": HOSTILE})
    told = capsys.readouterr()
    assert is_clean(told.out) and is_clean(told.err) and "R203: no column a\\u001b[2J" in told.err
