"""The short form of kill_and_resume.py: one run that is killed twice in a training, in a labelling, and in the first phase
of another training. What is killed is everything, the driver, the launcher and one rank."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SEED = 6023  # one that draws each victim once, and no moment of a start


def test_killed_runs_end_as_undisturbed_ones(tmp_path: Path) -> None:
    script = Path(__file__).parent / "kill_and_resume.py"
    command = [sys.executable, str(script), "--stage", "train", "train", "labels", "train", "--phases", "--kills", "1",
               "--steps", "30", "--rows", "600", "--seed", str(SEED), "--keep", str(tmp_path)]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert " 0 differ" in result.stdout
    kills = re.findall(r"^kill \d: (.*), in \('(.*)', ", result.stdout, re.MULTILINE)
    assert {victim for victim, _ in kills} == {"everything", "the driver", "the launcher", "one rank"}
    assert [stage for _, stage in kills] == ["teacher-train", "teacher-train", "written-own", "train-1"]
