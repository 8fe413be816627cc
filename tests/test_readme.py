"""README and tree agree: every module has its line, every name in the tree is there, every command is real."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text("utf-8")


def tree() -> str:
    found = re.search(r"## The tree\n+```\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    return found[1]


def test_every_module_has_its_line() -> None:
    listed = set(re.findall(r"^\s*([\w./]+\.py)\b", tree(), re.MULTILINE))
    modules = {path.name for half in ("compiler", "runtime") for path in (ROOT / half).rglob("*.py")}
    assert modules - {"__init__.py"} <= listed, sorted(modules - {"__init__.py"} - listed)
    assert listed <= modules | {"__init__.py"}, sorted(listed - modules)


def test_every_command_is_there() -> None:
    shown = set(re.findall(r"^distilc (\w+)", TEXT, re.MULTILINE))
    help_text = subprocess.run(
        [sys.executable, "-m", "distilc.compiler", "--help"], capture_output=True, text=True, check=True
    ).stdout
    commands = set(re.findall(r"^  (\w+)\s{2,}", help_text, re.MULTILINE))
    assert shown <= commands, shown - commands
    assert {"init", "check", "explain", "compile", "run", "status", "doctor", "schema"} <= commands


def test_every_make_target_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", TEXT, re.MULTILINE)) <= targets
