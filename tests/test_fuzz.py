"""The short form of `tests/fuzz.py`: what is written there of 10,000 specs and 2,000 plans holds for some."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("fuzz.py")


def test_damaged_specs_and_plans_are_diagnosed_and_do_no_damage() -> None:
    command = [sys.executable, str(SCRIPT), "--specs", "40", "--plans", "100", "--seed", "7"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "40 specs, 100 plans" in result.stdout and ": 0 faults" in result.stdout


def test_the_watch_sees_what_is_done_outside(tmp_path: Path) -> None:
    """A fuzzer that cannot fail proves nothing."""
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        "import os, shutil, subprocess, time, fuzz\n"
        f"from pathlib import Path\n"
        f"root = Path({str(tmp_path)!r})\n"
        "one, _ = fuzz.fuzz_all(root, 0, 0, 0)\n"
        "fuzz.LIMIT_SECONDS = 1\n"
        "deeds = {\n"
        "  'write': lambda: open(root / 'x', 'w'), 'folder': lambda: os.mkdir(root / 'y'),\n"
        "  'delete': lambda: shutil.rmtree(one.canary), 'unlink': lambda: os.remove('../canary/mine.txt'),\n"
        "  'move': lambda: os.rename('../canary/mine.txt', 'here'), 'program': lambda: subprocess.run(['true']),\n"
        "  'error': lambda: 1 / 0, 'hang': lambda: time.sleep(5), 'code': lambda: one.command('no such command\\x1b'),\n"
        "}\n"
        "for name, deed in deeds.items():\n"
        "    with one.case(name):\n"
        "        deed()\n"
        "with one.case('inside'):\n"
        "    Path('a').mkdir(); Path('a/b').write_text('c'); shutil.rmtree('a')\n"
        "print(sorted({fault.split(':')[0] for fault in one.faults}))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    seen = {"write", "folder", "delete", "unlink", "move", "program", "error", "hang"}
    found = set(ast.literal_eval(result.stdout.splitlines()[-1]))
    assert seen <= found and "inside" not in found
