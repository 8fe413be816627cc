"""What may import what. Static for both halves, and a probe of a running `distilc check`."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
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


@pytest.mark.parametrize("arguments", [["check", "specs/quickstart.yaml"], ["schema"], ["run", "--help"]])
def test_nothing_heavy_is_imported(arguments: list[str], tmp_path: Path) -> None:
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
    assert result.stdout.endswith("LOADED []\n"), result.stdout[-300:]
