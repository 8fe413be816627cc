"""Lets the tests run from a bare checkout too: without an install, `distilc` is this folder."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

if importlib.util.find_spec("distilc") is None:
    package = ModuleType("distilc")
    package.__path__ = [str(ROOT)]
    sys.modules["distilc"] = package

# How long an example takes says how busy the machine is, and nothing about the product.
settings.register_profile("distilc", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("distilc")

# Whole runs through the launcher take minutes: first, so that no worker is alone with one at the end.
LONG = ("test_two_nodes", "test_equivalence", "test_kill_and_resume", "test_memory", "test_label_mixes", "test_signals_training", "test_mutations")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(scope="session")
def focal_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which pip has installed tests/extension_package. Do not write into it."""
    for needed in ("pip", "setuptools"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: the example of an extension cannot be installed")
    source, target = tmp_path_factory.mktemp("extension") / "source", tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT / "tests" / "extension_package", source, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return target
