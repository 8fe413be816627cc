"""Rooms of the run half: what stands above imports what stands below, and no module imports itself over others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HALF = ROOT / "runtime"
FILES = sorted(HALF.rglob("*.py"))
# From the ground up: a folder, or a module beside the folders. Those of one line do not import each other.
FLOORS = (
    "messages", "failure", "files", "plan", "protocol", "extensions", "available data", "execution",
    "models metrics tracking", "signals generation report", "labels objective", "tasks", "training", "verify", "stages", "peek",
    "commands", "__main__",
)  # fmt: skip
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}


def room_of(module: str) -> str:
    return module.partition(".")[0]


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(HALF).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES if file != HALF / "__init__.py"}


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """(line, module of the half) of every import: those inside functions and those for types alone, too."""
    package = file.relative_to(HALF).parts[:-1]
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
        place = ".".join(part for part in base if part)
        for alias in node.names:
            whole = f"{place}.{alias.name}".removeprefix(".")
            yield node.lineno, whole if whole in MODULES else place


IMPORTS = {module: {name for _, name in imported(file) if name != module} for module, file in MODULES.items()}


def test_every_room_has_a_floor() -> None:
    assert {room_of(module) for module in MODULES} == set(FLOOR)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_import_leads_up(file: Path) -> None:
    own = room_of(module_of(file))
    for line, module in imported(file):
        there = room_of(module)
        assert there == own or FLOOR[there] < FLOOR[own], f"line {line}: {module} is above, or beside"


def test_no_circles() -> None:
    assert sum(map(len, IMPORTS.values())) > 600  # the graph is there
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_page_names_the_folders_from_the_top_down() -> None:
    listed = re.findall(r"^\| `(\w+)/` \|", (HALF / "README.md").read_text("utf-8"), re.MULTILINE)
    assert all(FLOOR[above] >= FLOOR[below] for above, below in pairwise(listed)), listed
