"""Valid specs, damaged at random: always diagnostics inside of the text, never an exception."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distilc.compiler.diagnostics import render_json, render_text
from distilc.compiler.pipeline import compile_spec, lower_runs
from distilc.compiler.resolved import resolved_yaml
from distilc.compiler.site import Site, SiteOptions, load_site
from distilc.compiler.structure import load_schema

ROOT = Path(__file__).parents[2]
SCHEMA = load_schema("experiment")
TEXTS = [(ROOT / "specs" / name).read_text("utf-8") for name in ("quickstart.yaml", "recipes/translation.yaml")]
FULL: dict[str, Any] = {
    name: SCHEMA.example(fragment) for name, fragment in SCHEMA.root["properties"].items() if name != "extends"
}
VALUES: list[Any] = [
    None, True, 0, -1, 3.5, 1e300, 10**18, "", "x", "~", "teacher", "./x", "1e5", "a" * 300, "${paths.x}", "${", "\u202e",
    [], [1], [None], [[]], [{}], {}, {"a": 1}, {"hub": "x"}, {"files": "x"}, [0, 0, 0], "random", "google/t5",
]  # fmt: skip
NAMES = ["hub", "path", "files", "labels", "train", "x", "", "test", "weight", "layers", "a.b", "steps", "extends"]
PIECES = [b"", b"{", b"[", b": ", b"\n", b"\t", b"- ", b"&a ", b"*a", b"!x ", b'"', b"'", b"|", b"#", b"<<: ", b"---\n"]
OPTIONS = [
    "teacher.path=./x", "data.train.limit=3", "data.test[0].limit=x", "loss.labels=2", "x.y.z=1", "name=", "seeds[0]=1",
    "data.train={builtin: bulletins}", "a[3].b=1", "task=[", "student.init.decoder.layers=[0, 9]", "batch.examples=3",
]  # fmt: skip


def trails(tree: Any, trail: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield trail
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for step, below in items:
        yield from trails(below, (*trail, step))


def damaged_tree(chance: random.Random) -> bytes:
    tree = copy.deepcopy(FULL)
    for _ in range(chance.choice([1, 1, 2, 4])):
        trail = chance.choice([trail for trail in trails(tree) if trail])
        holder = tree
        for step in trail[:-1]:
            holder = holder[step]
        kind = chance.random()
        if kind < 0.5:
            holder[trail[-1]] = copy.deepcopy(chance.choice(VALUES))
        elif kind < 0.65:
            del holder[trail[-1]]
        elif isinstance(holder, dict):
            holder[chance.choice(NAMES)] = holder.pop(trail[-1]) if kind < 0.8 else chance.choice(VALUES)
    return resolved_yaml_of(tree).encode()


def resolved_yaml_of(tree: dict[str, Any]) -> str:
    known = {key: value for key, value in tree.items() if key in SCHEMA.root["properties"]}
    rest = {key: value for key, value in tree.items() if key not in known}
    return resolved_yaml(known) + "".join(f"{json.dumps(key)}: {json.dumps(value)}\n" for key, value in rest.items())


def damaged_text(chance: random.Random) -> bytes:
    content = bytearray(chance.choice(TEXTS).encode())
    for _ in range(chance.choice([1, 2, 5])):
        at = chance.randrange(len(content))
        if chance.random() < 0.3:
            content[at] = chance.randrange(256)
        else:
            content[at : at + chance.randrange(8)] = chance.choice(PIECES)
    return bytes(content)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    loaded = load_site(SiteOptions(offline=True, workspace=tmp_path_factory.mktemp("workspace")))
    assert loaded.site is not None
    return loaded.site


@pytest.mark.parametrize("damage", [damaged_tree, damaged_text])
@settings(
    max_examples=100, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(seed=st.integers(0, 10**9))
def test_a_damaged_spec_is_diagnosed(seed: int, damage: Any, site: Site, tmp_path: Path) -> None:
    chance = random.Random(seed)
    file = tmp_path / "spec.yaml"
    file.write_bytes(damage(chance))
    overrides = tuple(chance.sample(OPTIONS, chance.choice([0, 0, 1])))
    compiled = compile_spec(file, overrides, site)
    if compiled.runs:
        _, compiled = lower_runs(compiled, site, fingerprints=False)
    assert compiled.diagnostics or compiled.runs
    for diagnostic in compiled.diagnostics:
        text = compiled.texts.get(diagnostic.file)
        if text is not None:
            lines = text.split("\n")
            assert 1 <= diagnostic.line <= len(lines)
            assert 1 <= diagnostic.column <= len(lines[diagnostic.line - 1]) + 1
    json.loads(render_json(compiled.diagnostics))
    assert "\x1b" not in render_text(compiled.diagnostics, compiled.texts)
