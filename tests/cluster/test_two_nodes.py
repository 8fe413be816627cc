"""The short form of two_nodes.py, where this machine can show it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_a_run_over_two_nodes_is_that_of_one_machine_and_ends_with_its_driver() -> None:
    script = Path(__file__).with_name("two_nodes.py")
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=900)
    if result.returncode == 77:
        pytest.skip(result.stdout.strip())
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-3000:]
    assert "no worker left after" in result.stdout and " 0 differ" in result.stdout
