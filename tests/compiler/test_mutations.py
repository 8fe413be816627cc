"""Valid specs, damaged at random: always diagnostics inside of the text, never an exception.

Some hundreds of them; `tests/fuzz.py` damages thousands, in the same ways.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distilc.compiler.cli import distilc
from distilc.compiler.diagnostics.codes import CODES
from distilc.compiler.spec.structure import load_schema
from distilc.compiler.spec.yaml_text import yaml_text

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCHEMA = load_schema("experiment")
RUNS = """
loss: {labels: 1.0, logits: {weight: 0.8, temperature: 2.0}, hidden: {decoder: 3.0}}
pseudo_labels: {own: {by: teacher, keep: {min_rouge2: 10}}}
variants:
  sft: {loss: {logits: null, hidden: null}}
  kd: {phi: {decoder: [3, 5]}, expect: {student: {rouge2: 20.0, within: 0.5}}}
  pl: {targets: [original, own], loss: {logits: null, hidden: null}}
matrix:
  student.decoder_layers: [1, 2]
  exclude: [{student.decoder_layers: 1}]
seeds: [1, 2]
expect: {teacher: {rouge2: 22.0, source: Table 5}}
"""
TEXTS = [(ROOT / "specs" / name).read_text("utf-8") for name in ("quickstart.yaml", "recipes/translation.yaml")]
TEXTS += [TEXTS[0] + RUNS, TEXTS[0] + RUNS]
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
    "matrix.student.decoder_layers=[1, 2]", "variants.kd.loss=null", "matrix=3", "seeds=[1, 2]", "expect.kd.rouge2=x",
]  # fmt: skip


def trails(tree: Any, trail: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield trail
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for step, below in items:
        yield from trails(below, (*trail, step))


def damaged_tree(chance: random.Random) -> bytes:
    tree = copy.deepcopy(FULL)
    damage_tree(tree, chance)
    return resolved_yaml_of(tree).encode()


def damage_tree(tree: dict[str, Any], chance: random.Random) -> None:
    """Change a few of its values, or take them out, or call them otherwise."""
    for _ in range(chance.choice([1, 1, 2, 4])):
        inside = [trail for trail in trails(tree) if trail]
        if not inside:
            return
        trail = chance.choice(inside)
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


def resolved_yaml_of(tree: dict[str, Any]) -> str:
    known = {key: value for key, value in tree.items() if key in SCHEMA.root["properties"]}
    rest = {key: value for key, value in tree.items() if key not in known}
    return yaml_text(known) + "".join(f"{json.dumps(key)}: {json.dumps(value)}\n" for key, value in rest.items())


def damaged_text(chance: random.Random) -> bytes:
    content = bytearray(chance.choice(TEXTS).encode())
    for _ in range(chance.choice([1, 2, 5])):
        at = chance.randrange(len(content))
        if chance.random() < 0.3:
            content[at] = chance.randrange(256)
        else:
            content[at : at + chance.randrange(8)] = chance.choice(PIECES)
    return bytes(content)


@pytest.mark.parametrize("damage", [damaged_tree, damaged_text])
@settings(
    max_examples=500, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(seed=st.integers(0, 10**9))
def test_a_damaged_spec_is_diagnosed(
    seed: int, damage: Callable[[random.Random], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    chance = random.Random(seed)
    file = tmp_path / "spec.yaml"
    file.write_bytes(damage(chance))
    overrides = chance.sample(OPTIONS, chance.choice([0, 0, 1]))
    command = ["check", "--offline", "--format", "json", "--workspace", str(tmp_path / "workspace"), str(file)]
    result = CliRunner().invoke(distilc, [*command, *(f"--set={override}" for override in overrides)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    diagnostics = json.loads(result.stdout)["diagnostics"]
    assert result.exit_code == int(any(found["severity"] == "error" for found in diagnostics))
    assert not (tmp_path / "workspace").exists()
    texts = {str(file): file.read_bytes().decode("utf-8", "replace"), "--set": "\n".join(overrides)}
    for found in diagnostics:
        assert found["code"] in CODES and found["message"]
        lines = texts[found["file"]].split("\n")
        assert 1 <= found["line"] <= len(lines)
        assert 1 <= found["column"] <= len(lines[found["line"] - 1]) + 1
