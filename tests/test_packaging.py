"""The package list agrees with the tree, and a wheel works outside of the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
HALVES = ("compiler", "runtime")


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_every_package_is_listed() -> None:
    """A sub-package that is not listed works in an editable install, and is missing from the wheel."""
    found = {"distilc.schema", "distilc.specs.recipes"}
    for half in HALVES:
        for file in (ROOT / half).rglob("__init__.py"):
            found.add("distilc." + ".".join(file.parent.relative_to(ROOT).parts))
        for folder in {file.parent for file in (ROOT / half).rglob("*.py")}:
            assert (folder / "__init__.py").is_file(), folder
    assert set(project()["tool"]["setuptools"]["packages"]) == found  # type: ignore[index]


def test_no_folder_is_called_distilc() -> None:
    assert not (ROOT / "distilc").exists()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy so that the checkout stays clean."""
    if find_spec("setuptools") is None:  # looked for, not imported: it wants to come before distutils
        pytest.skip("setuptools is not installed")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, source)
    if not (source / "README.md").is_file():
        (source / "README.md").write_text("distilc\n")
    for name in (*HALVES, "schema", "specs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("wheel")
    build = (
        "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", build, str(target)], cwd=source, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:]
    (built,) = target.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_has_the_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for file in [*(ROOT / "schema").glob("*.json"), *(ROOT / "specs" / "recipes").glob("*.yaml")]:
        assert f"distilc/{file.relative_to(ROOT)}" in names
    kinds = ("*.py", "*.toml", "*.json")
    modules = {str(file.relative_to(ROOT)) for half in HALVES for kind in kinds for file in (ROOT / half).rglob(kind)}
    assert {f"distilc/{name}" for name in modules} <= names
    assert not any(name.startswith(("tests/", "compiler/", "distilc/tests/")) for name in names)


@pytest.mark.slow
def test_the_wheel_registers_our_terms_metrics_and_families(wheel: Path, tmp_path: Path) -> None:
    """In a checkout they are read from pyproject.toml; elsewhere from what the wheel brought along."""
    place = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(place)
    probe = (
        "import json\nfrom distilc.runtime import extensions\n"
        "found = {kind: [entry.value for (entry,) in extensions.entries(kind).values() if entry.distribution == 'distilc']"
        " for kind in extensions.KINDS}\n"
        "print(json.dumps([extensions.__file__, found]))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", probe], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    file, found = json.loads(result.stdout)
    assert Path(file).is_relative_to(place)
    groups: Any = project()["project"]["entry-points"]  # type: ignore[index]
    assert {f"distilc.{kind}": sorted(values) for kind, values in found.items()} == {
        group: sorted(entries.values()) for group, entries in groups.items()
    }


@pytest.mark.slow
def test_the_wheel_runs_the_command_line(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(place)
    environment = {**os.environ, "PYTHONPATH": str(place), "XDG_CONFIG_HOME": str(tmp_path)}

    def distilc(*arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, "-m", "distilc.compiler", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr + result.stdout
        return result.stdout

    distilc("init", "spec.yaml")
    assert str(place) in (tmp_path / "spec.yaml").read_text("utf-8").split("\n")[0]
    assert distilc("check", "spec.yaml") == "spec.yaml: ok\n"
    assert distilc("compile", "spec.yaml", "-o", "plans") == "plans/my-sft\n"
