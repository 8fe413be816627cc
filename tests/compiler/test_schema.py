"""The schemas themselves: valid, described, exampled; and every shipped spec fits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from spec_texts import shipped_paths

from distilc.compiler.extensions.schema_files import misfits
from distilc.compiler.pipeline import compile_spec, lower_runs
from distilc.compiler.resolve.site import SiteOptions, load_site
from distilc.compiler.spec.structure import load_schema, with_defaults

ROOT = Path(__file__).parents[2]
NAMES = ("experiment", "site")
SPECS = sorted(file for file in (ROOT / "specs").rglob("*.yaml") if file.parent.name != "base")  # whole ones


def test_a_vocabulary_has_room_for_the_bytes() -> None:
    """A tokenizer that the runtime would refuse to train is refused before."""
    from distilc.runtime.data.train_tokenizer import SMALLEST_VOCABULARY

    tokenizer = load_schema("experiment").root["$defs"]["tokenizer"]
    assert tokenizer["properties"]["vocab_size"]["minimum"] == SMALLEST_VOCABULARY


def keys(fragment: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with a fixed name, with its fragment."""
    if isinstance(fragment, dict):
        for name, below in fragment.get("properties", {}).items():
            yield f"{path}.{name}", below
        for name, below in fragment.items():
            yield from keys(below, f"{path}.{name}")
    elif isinstance(fragment, list):
        for below in fragment:
            yield from keys(below, path)


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_is_valid(name: str) -> None:
    Draft202012Validator.check_schema(load_schema(name).root)
    text = (ROOT / "schema" / f"{name}.schema.json").read_text("utf-8")
    assert json.loads(text)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("name", NAMES)
def test_every_key_has_a_description_and_an_example_that_fits(name: str) -> None:
    schema = load_schema(name)
    found = dict(keys(schema.root))
    assert len(found) > 15
    for path, fragment in found.items():
        resolved = schema.resolve(fragment)
        assert resolved.get("description", "").endswith((".", ")")), path
        assert resolved.get("examples"), path
        validator = Draft202012Validator({**resolved, "$defs": schema.root.get("$defs", {})})
        for example in resolved["examples"]:
            assert not list(validator.iter_errors(example)), (path, example)


@pytest.mark.parametrize("name", NAMES)
def test_every_default_fits(name: str) -> None:
    schema = load_schema(name)
    for path, fragment in keys(schema.root):
        resolved = schema.resolve(fragment)
        if "default" in resolved:
            validator = Draft202012Validator({**resolved, "$defs": schema.root.get("$defs", {})})
            filled = with_defaults(schema, fragment, resolved["default"])
            for value in (resolved["default"], filled):
                assert not list(validator.iter_errors(value)), (path, value)


@pytest.mark.parametrize("name", NAMES)
def test_every_mapping_is_closed(name: str) -> None:
    """An object with fixed keys allows no other."""

    def visit(fragment: Any, path: str) -> None:
        if isinstance(fragment, dict):
            if "properties" in fragment and isinstance(fragment["properties"], dict):
                # A mapping with names that people choose says what they may be.
                closed = fragment.get("additionalProperties") is False or "propertyNames" in fragment
                assert closed, path
            for key, below in fragment.items():
                visit(below, f"{path}.{key}")
        elif isinstance(fragment, list):
            for below in fragment:
                visit(below, path)

    visit(load_schema(name).root, name)


def test_annotations_are_the_documented_ones() -> None:
    readme = (ROOT / "compiler" / "README.md").read_text("utf-8")
    for name in NAMES:
        text = json.dumps(load_schema(name).root)
        for word in ("x-either", "x-short", "x-location", "x-words", "x-metrics", "x-overlay", "x-with"):
            assert f"`{word}`" in readme
            text = text.replace(f'"{word}"', "")
        assert '"x-' not in text


@pytest.mark.parametrize("spec", SPECS, ids=[str(spec.relative_to(ROOT / "specs")) for spec in SPECS])
def test_shipped_specs_check_clean(spec: Path, tmp_path: Path) -> None:
    site = load_site(SiteOptions(offline=True, workspace=tmp_path, paths=shipped_paths(tmp_path))).site
    assert site is not None
    compiled = compile_spec(spec, (), site)
    # Pseudo-labels on CNN/DailyMail: the paper's own finding.
    assert {diagnostic.code for diagnostic in compiled.diagnostics} <= {"W413"}
    _, compiled = lower_runs(compiled, site, fingerprints=False)
    # Their data files lie elsewhere.
    assert {diagnostic.code for diagnostic in compiled.diagnostics} <= {"W413", "E508"}


LINE_FEED = {
    "name": "name: \"small\\n\"",
    "variant": "variants: {\"a\\n\": {}}",
    "test set": "data: {test: {\"a\\n\": {builtin: bulletins}}}",
    "labeller": "pseudo_labels: {\"own\\n\": {by: teacher}}",
    "hub name": "teacher: {hub: \"org/name\\n\"}",
    "data set": "data: {train: {hub: \"org/name\\n\"}}",
    "expectation": "expect: {student: {\"rouge2\\n\": 1.0}}",
}


@pytest.mark.parametrize("place", LINE_FEED)
def test_a_name_does_not_end_in_a_line_feed(place: str, tmp_path: Path) -> None:
    """Python's `$` would let it."""
    schema = load_schema("experiment")
    text = LINE_FEED[place]
    tree = YAML(typ="safe").load(text)
    clean = YAML(typ="safe").load(text.replace("\\n", ""))
    assert not _of_patterns(misfits(clean, schema.root, schema.root))
    (told,) = _of_patterns(misfits(tree, schema.root, schema.root))
    assert told.value.endswith("\n")


def _of_patterns(found: Any) -> list[Any]:
    patterns: list[Any] = []
    for misfit in found:
        patterns += [misfit] if misfit.keyword == "pattern" else _of_patterns(below for some in misfit.branches for below in some)
    return patterns[:1]


@pytest.mark.parametrize(
    ("pattern", "fits", "not_fits"),
    [("^a$", "a", "a\n"), ("^a\\$$", "a$", "a$\n"), ("^[$a]$", "$", "$\n"), ("^[^]$]$", "x", "x\n"), ("a$|b", "b\n", "a\n")],
)
def test_the_end_in_a_pattern_is_the_end_of_the_text(pattern: str, fits: str, not_fits: str) -> None:
    schema = {"pattern": pattern}
    assert not list(misfits(fits, schema, schema))
    assert list(misfits(not_fits, schema, schema))
