"""Lets the tests run from a bare checkout too: without an install, `distilc` is this folder."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

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

# What takes longest comes first, so that no worker is alone with it at the end.
LONG = (
    "test_equivalence", "test_kill_and_resume", "test_two_nodes", "test_encoder_sharding", "test_extensions",
    "test_added_by_files", "test_verify", "test_tinybert", "test_mutations", "test_label_mixes", "test_masked_lm", "test_resolved", "test_tracking", "test_fuzz", "test_phases",
    "test_named_runs",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Each of several workers keeps to cores of its own: a process on all of them has as many threads, and those of so
    small a model spin for one another whenever a worker beside it has one of the cores."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        cores = sorted(os.sched_getaffinity(0))
        own = cores[int(worker["workerid"].removeprefix("gw")) :: worker["workercount"]]
        os.sched_setaffinity(0, own or cores)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


class HandedOver(BaseException):
    """In place of the process that the compile half becomes: no `except Exception` holds it up."""


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file of MLflow's with its tables. Do not write into it."""
    from distilc.runtime.tracking.server import connect

    file = tmp_path_factory.mktemp("tracking") / "mlflow.db"
    connect(f"sqlite:///{file}")
    return file


@pytest.fixture
def distilc(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], empty_database: Path
) -> Callable[..., str]:
    """`distilc(*arguments)` -> what it said. Both halves, in this process, which has the libraries already: a start
    imports for ten seconds. It must end well."""
    from distilc.compiler.cli import distilc as command
    from distilc.runtime.__main__ import main as become
    from distilc.runtime.tracking import server

    monkeypatch.setattr(server, "_make_tables", lambda file, client_class: shutil.copy(empty_database, file))

    def hand_over(program: str, words: Sequence[str]) -> NoReturn:
        assert list(words[:3]) == [program, "-m", "distilc.runtime"]
        raise HandedOver(words[3:])

    def run(*arguments: str) -> str:
        before = dict(os.environ)
        capfd.readouterr()
        code = 0
        try:
            with monkeypatch.context() as changed:
                changed.setattr(os, "execv", hand_over)
                command.main(list(arguments), standalone_mode=False)
        except HandedOver as handed:
            code = become(list(handed.args[0]))
        finally:
            os.environ.clear()
            os.environ.update(before)
        said = capfd.readouterr()
        assert code == 0, said.out[-4000:] + said.err[-4000:]
        return said.out + said.err

    return run


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
