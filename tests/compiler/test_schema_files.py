"""What does not fit a schema, held to the library jsonschema: the same keywords at the same places."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from test_mutations import FULL, damage_tree

from distilc.compiler.extensions.schema_files import FOLDER, KEYWORDS, fits, misfits, read_schema
from distilc.compiler.spec.structure import load_schema

SAYING_NOTHING = {"$schema", "$id", "$defs", "title", "description", "default", "examples", "format"}


def theirs(errors: Any) -> Iterator[tuple[Any, ...]]:
    """Each keyword that is broken, with the place; for a key that is missing jsonschema has an error of its own."""
    for error in errors:
        context = sorted(error.context, key=lambda below: below.relative_schema_path[0])
        below = tuple(theirs(context)) if error.validator == "anyOf" else ()
        yield error.validator, json.dumps(error.validator_value), tuple(error.absolute_path), below


def ours(found: Any) -> Iterator[tuple[Any, ...]]:
    for misfit in found:
        below = tuple(one for branch in misfit.branches for one in ours(branch))
        yield misfit.keyword, json.dumps(misfit.wanted), misfit.path, below


def once(found: Iterator[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """In an order of its own: jsonschema goes through names that are not fixed in none."""
    return sorted({(*one[:3], *once(iter(one[3]))) for one in found}, key=repr)


def assert_same(value: Any, schema: Any) -> None:
    validator = Draft202012Validator(schema)
    assert once(ours(misfits(value, schema, schema))) == once(theirs(validator.iter_errors(value)))
    assert fits(value, schema, schema) == validator.is_valid(value)


@pytest.mark.slow
@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 10**9))
def test_damaged_specs(seed: int) -> None:
    tree = copy.deepcopy(FULL)
    damage_tree(tree, random.Random(seed))
    assert_same(tree, load_schema("experiment").root)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 10**9))
def test_damaged_descriptions_of_terms(seed: int) -> None:
    """Conditions, constants and definitions that specs do not have."""
    schema = read_schema("extension")
    names = {"type": "array", "items": {"type": "string"}, "default": ["a"], "description": "Names."}
    weight = {"type": "number", "minimum": 0, "description": "Its weight."}
    tree = {
        "terms": {
            "a": {
                "description": "A term.", "tasks": ["translation"], "needs": ["logits"],
                "properties": {"weight": weight, "names": names},
            }
        }
    }  # fmt: skip
    assert fits(tree, schema, schema)
    damage_tree(tree, random.Random(seed))
    assert_same(tree, schema)


VALUES = [None, True, False, 0, 1, 1.0, 2.5, "", "ab", [], [1, 1.0], [1, True], [[0], [False]], [{"a": 1}, {"a": 1.0}]]
VALUES += [[1, "b", 3], [1, 1], {}, {"a": True}, {"b": []}, {"a": 1}, {"a": 1, "b": 2}, {"b": "x"}]
SCHEMAS: list[dict[str, Any]] = [
    {"type": "integer"}, {"type": ["number", "null"]}, {"enum": [1, "ab"]}, {"enum": [True, [1.0, 1]]}, {"const": 0},
    {"const": {"a": True}}, {"uniqueItems": True}, {"uniqueItems": False}, {"minLength": 1, "maxLength": 1},
    {"minItems": 2, "maxItems": 2}, {"minProperties": 1, "maxProperties": 1}, {"required": ["a", "b"]},
    {"dependentRequired": {"a": ["b", "c"]}}, {"exclusiveMinimum": 0, "exclusiveMaximum": 2.5}, {"minimum": 1, "maximum": 1},
    {"oneOf": [{"type": "integer"}, {"minimum": 1}]}, {"not": {"type": "object"}}, {"propertyNames": {"enum": ["a"]}},
    {"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": {"type": "integer"}},
    {"prefixItems": [{"type": "integer"}], "items": False},
    {"allOf": [{"type": "object"}, {"required": ["b"]}]}, {"additionalProperties": {"type": "integer"}},
    {"properties": {"a": {"type": "string"}}, "additionalProperties": False},
    {"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": {"type": "array"}},
    {"anyOf": [{"type": "integer", "minimum": 1}, {"anyOf": [{"type": "string", "minLength": 3}, {"const": [1, 1]}]}]},
    {"$defs": {"x": {"type": "integer"}}, "$ref": "#/$defs/x", "minimum": 1},
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=map(json.dumps, SCHEMAS))
def test_each_keyword(schema: dict[str, Any]) -> None:
    for value in VALUES:
        assert_same(value, schema)
    assert {fits(value, schema, schema) for value in VALUES} == {True, False} or schema == {"uniqueItems": False}


def keywords(fragment: object, names: bool = False) -> Iterator[str]:
    """Every keyword of JSON Schema below a fragment. `names`: its keys are names that a schema describes."""
    if isinstance(fragment, list):
        for below in fragment:
            yield from keywords(below)
    elif isinstance(fragment, dict):
        for key, below in fragment.items():
            if not names:
                yield key
            if names or key not in ("const", "default", "dependentRequired", "enum", "examples", "x-with"):
                yield from keywords(below, not names and key in ("properties", "$defs"))


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.schema.json")), ids=lambda file: file.name)
def test_the_schemas_use_these_keywords_alone(file: Any) -> None:
    """One that is not known would say nothing."""
    used = {word for word in keywords(json.loads(file.read_text("utf-8"))) if not word.startswith("x-")}
    assert len(used) > 5 and used <= {*KEYWORDS, *SAYING_NOTHING}, used - {*KEYWORDS, *SAYING_NOTHING}


def test_a_package_may_use_these_keywords_alone() -> None:
    definitions = read_schema("extension")["$defs"]
    setting = definitions["setting"]["properties"]
    weight = definitions["term"]["properties"]["properties"]["properties"]["weight"]["propertyNames"]["enum"]
    assert {*setting, *setting["items"]["properties"], *weight} <= {*KEYWORDS, *SAYING_NOTHING}
