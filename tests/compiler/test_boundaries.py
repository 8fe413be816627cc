"""What may import what. Static for both halves, and a probe of a running `distilc check`."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "compiler": {"torch", "transformers", "datasets", "deepspeed", "mlflow", "numpy", "runtime", "distilc"},
    "runtime": {"yaml", "ruamel", "jsonschema", "compiler", "distilc"},
}
HEAVY = ("torch", "transformers", "datasets", "deepspeed", "mlflow", "numpy", "rich", "huggingface_hub", "tokenizers")
FILES = [(half, file) for half in FORBIDDEN for file in sorted((ROOT / half).rglob("*.py"))]


@pytest.mark.parametrize(("half", "file"), FILES, ids=[str(file.relative_to(ROOT)) for _, file in FILES])
def test_imports(half: str, file: Path) -> None:
    depth = len(file.relative_to(ROOT / half).parts)
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= depth, f"line {node.lineno}: a relative import that leaves the half"
            names = [node.module or ""] if node.level == 0 else []
        for name in names:
            assert name.split(".")[0] not in FORBIDDEN[half], f"line {node.lineno}: {name}"


# The rooms of the compile half, from the lowest up: a module imports from its own room and from lower ones.
ROOMS = (
    "diagnostics", "tasks", "extensions", "spec", "resolve", "estimates", "checks", "plan", "pipeline", "explain",
    "commands", "cli", "__main__",
)  # fmt: skip


def imports_of(module: str, modules: Mapping[str, Path]) -> dict[str, int]:
    """The modules of the same half that a module imports, wherever in it, with the line of each."""
    found: dict[str, int] = {}
    file = modules[module]
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - node.level + 1]
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inside = f"{source}.{alias.name}".lstrip(".")
                if (target := inside if inside in modules else source) in modules:
                    found.setdefault(target, node.lineno)
    return found


def graph(half: str) -> dict[str, dict[str, int]]:
    modules = {}
    for file in (ROOT / half).rglob("*.py"):
        parts = file.relative_to(ROOT / half).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return {module: imports_of(module, modules) for module in sorted(modules)}


def test_the_compile_half_has_no_circle() -> None:
    """Imports inside functions and those for types alone count, too."""
    ahead = {module: set(found) for module, found in graph("compiler").items()}
    assert sum(map(len, ahead.values())) > 500
    while free := {module for module, found in ahead.items() if not found & ahead.keys()}:
        ahead = {module: found for module, found in ahead.items() if module not in free}
    assert not ahead, "import each other, or are above those that do"


def test_no_lower_room_imports_a_higher_one() -> None:
    def room(module: str) -> int:
        return ROOMS.index(module.split(".")[0])

    imports = graph("compiler")
    assert {module.split(".")[0] for module in imports if module} == {*ROOMS}
    upward = [
        f"{module}, line {line}: {target}"
        for module, found in imports.items() if module
        for target, line in found.items() if room(target) > room(module)
    ]  # fmt: skip
    assert not upward


def test_the_root_holds_the_way_alone() -> None:
    files = {file.name for file in (ROOT / "compiler").glob("*.py")}
    assert files == {"__init__.py", "__main__.py", "cli.py", "pipeline.py"}


@pytest.mark.parametrize(("half", "file"), FILES, ids=[str(file.relative_to(ROOT)) for _, file in FILES])
def test_json_has_no_word_for_what_is_no_number(half: str, file: Path) -> None:
    """Python writes NaN and Infinity unless it is told not to, and most other programs cannot read that file."""
    source = file.read_text("utf-8")
    assert "from json import" not in source and "import json as" not in source
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name) or node.value.id != "json":
            continue
        assert node.attr in ("loads", "load", "dumps", "dump", "JSONDecodeError"), f"line {node.lineno}"
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    writing = [call for call in calls if ast.unparse(call.func) in ("json.dumps", "json.dump")]
    assert len(writing) == source.count("json.dumps") + source.count("json.dump("), "one is not called here"
    for call in writing:
        told = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert told.get("allow_nan") == "False", f"line {call.lineno}"


def test_no_module_is_named_like_a_library_or_like_nothing() -> None:
    taken = set(sys.stdlib_module_names) | {"torch", "transformers", "datasets", "deepspeed", "mlflow", "click", "rich"}
    vague = {"utils", "helpers", "common", "manager", "misc", "base"}
    for half, file in FILES:
        # Sub-packages are reached by their full name only; the top of a half could be a script's folder.
        if file.parent == ROOT / half:
            assert file.stem not in taken - {"__main__", "site"}, file
        assert file.stem not in vague, file


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [
        (["check", "specs/quickstart.yaml"], []),
        (["schema"], []),
        (["run", "--help"], []),
        (["check", "--data", "tests/compiler/invalid/W425.yaml"], []),
        (["check", "tests/compiler/invalid/W428.yaml"], []),
        (["check", "--data", "tests/compiler/invalid/W428.yaml"], ["tokenizers"]),
    ],
)
def test_nothing_heavy_is_imported(arguments: list[str], loaded: list[str], tmp_path: Path) -> None:
    probe = (
        "import sys\n"
        "from distilc.compiler.cli import distilc\n"
        "try:\n"
        f"    distilc.main({arguments!r})\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith(f"LOADED {loaded}\n"), result.stdout[-300:]
