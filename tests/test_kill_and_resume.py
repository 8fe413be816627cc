"""The short form of kill_and_resume.py: two kills of a training, two of one in phases, one of a labelling."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_killed_runs_end_as_undisturbed_ones(tmp_path: Path) -> None:
    script = Path(__file__).parent / "kill_and_resume.py"
    command = [sys.executable, str(script), "--kills", "2", "--steps", "20", "--seed", "3", "--keep", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=540)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert " 0 differ" in result.stdout


def test_killed_phases_end_as_undisturbed_ones(tmp_path: Path) -> None:
    script = Path(__file__).parent / "kill_and_resume.py"
    command = [sys.executable, str(script), "--phases", "--kills", "2", "--steps", "20", "--seed", "5", "--keep", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert " 0 differ" in result.stdout


def test_killed_labelling_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    script = Path(__file__).parent / "kill_and_resume.py"
    command = [sys.executable, str(script), "--stage", "labels", "--kills", "1", "--steps", "4", "--rows", "800",
               "--seed", "4", "--keep", str(tmp_path)]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert " 0 differ" in result.stdout
