"""Names of other tools: what is told mends the spec when it is typed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from distilc.compiler.pipeline import compile_spec
from distilc.compiler.resolve.site import SiteOptions, load_site
from distilc.compiler.spec.other_names import SETTINGS, VALUES, what_to_type
from distilc.compiler.spec.structure import load_schema

SCHEMA = load_schema("experiment")
STARTER = Path(__file__).parents[2] / "specs" / "recipes" / "sft.yaml"


@pytest.mark.parametrize(
    ("name", "value", "path", "known", "hint"),
    [
        ("epochs", 3, (), (), "here it is `stopping: {max_epochs: 3}`, at the top level"),
        ("epochs", "many", (), (), "here it is `stopping: {max_epochs: 5}`, at the top level"),
        ("epochs", 3, ("stopping",), (), "here it is `max_epochs: 3`"),
        ("batch_size", 4, ("training",), (), "here it is `batch: {examples: 4}`, at the top level"),
        ("batch_size", 4, ("teacher", "train"), (), "here it is `batch: {examples: 4}`"),
        (
            "batch_size",
            4,
            ("teacher", "train", "training"),
            (),
            "here it is `batch: {examples: 4}`, in `teacher.train`",
        ),
        ("seed", 3, (), (), "here it is `seeds: [3]`, at the top level"),
        ("seed", 3, ("teacher", "train"), (), "here it is `seed: 3`, in `teacher`"),
        ("fp16", True, ("training",), (), "here it is `precision: fp16`, at the top level"),
        ("bf16", False, (), (), "here it is `precision: fp32`, at the top level"),
        ("num_beams", 3, ("validation", "generation"), ("beams",), "here it is `beams: 3`"),
        ("freeze_encoder", True, ("student",), (), "here it is `freeze: [encoder]`"),
        ("output_dir", "x", (), (), "remove it: the folder of results is set by `--workspace DIR`"),
        ("colour", "x", (), (), ""),
    ],
)
def test_what_to_type(name: str, value: Any, path: tuple[str, ...], known: tuple[str, ...], hint: str) -> None:
    assert what_to_type(name, value, path, known, SCHEMA) == hint


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("{path: train.csv}", "files of rows are named by `files`: write `{files: train.csv}`"),
        ("{path: ./rows}", "files of rows are named by `files`: write `{files: ./rows}`"),
        ("{paths: [a.jsonl, 'b, c.jsonl']}", 'files of rows are named by `files`: write `{files: [a.jsonl, "b, c.jsonl"]}`'),
        ("{path: EdinburghNLP/xsum}", "a data set of the hub is named by `hub`: write `{hub: EdinburghNLP/xsum}`"),
    ],
)  # fmt: skip
def test_what_names_a_data_set(source: str, hint: str, tmp_path: Path) -> None:
    site = load_site(SiteOptions(offline=True)).site
    assert site is not None
    (tmp_path / "base.yaml").write_text(STARTER.read_text("utf-8"), "utf-8")
    (tmp_path / "spec.yaml").write_text(f"extends: base.yaml\ndata: {{train: {source}}}\n")
    assert [found.hint for found in compile_spec(tmp_path / "spec.yaml", (), site).diagnostics] == [hint]


def test_a_site_has_other_names() -> None:
    assert what_to_type("epochs", 3, (), (), load_schema("site")) == ""


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_told_mends_the_spec(name: str, tmp_path: Path) -> None:
    site = load_site(SiteOptions(offline=True)).site
    assert site is not None
    (tmp_path / "base.yaml").write_text(STARTER.read_text("utf-8"), "utf-8")
    spec = tmp_path / "spec.yaml"

    def found(line: str) -> list[Any]:
        spec.write_text(f"extends: base.yaml\n{line}\n", "utf-8")
        return [d for d in compile_spec(spec, (), site).diagnostics if d.severity == "error"]

    (error,) = found(f"{name}: 1")
    told = re.search(r"`([^`]*: [^`]*)`", error.hint)
    assert error.code == "E201" and told is not None, error.hint
    assert found(told.group(1)) == []


def test_words_for_values_are_values() -> None:
    words = {word for _, fragment in choices(SCHEMA.root) for word in fragment}
    words |= {word for _, fragment in choices(load_schema("site").root) for word in fragment}
    assert set(VALUES.values()) <= words


def choices(fragment: Any) -> list[tuple[str, list[Any]]]:
    """Every `enum` below a fragment."""
    if isinstance(fragment, list):
        return [found for below in fragment for found in choices(below)]
    if not isinstance(fragment, dict):
        return []
    own = [("enum", fragment["enum"])] if isinstance(fragment.get("enum"), list) else []
    return own + [found for below in fragment.values() for found in choices(below)]
