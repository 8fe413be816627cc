"""The files of `schema/`, and what holds a value to them.

Draft 2020-12 of JSON Schema, as far as our schemas speak it: `KEYWORDS` are the words that say what fits, and a test
holds the schemas to them. The library jsonschema says the same (a test compares them) and takes longer to import than
a spec takes to check.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..diagnostics.record import record

FOLDER = Path(__file__).resolve().parents[2] / "schema"

Fragment = Mapping[str, Any]


def read_schema(name: str) -> dict[str, Any]:
    """The schema of this name, as its file has it."""
    root: dict[str, Any] = json.loads((FOLDER / f"{name}.schema.json").read_text("utf-8"))
    return root


@record
class Misfit:
    """A value at `path` that does not fit a keyword of a `fragment`, which wants `wanted`. `of_name`: the value is the
    name of a key in the mapping at `path`. `branches`: of `anyOf`, what does not fit in each alternative; `within`: the
    `anyOf` of which this was found in the alternative that was meant."""

    keyword: str
    wanted: Any
    value: Any
    fragment: Fragment
    path: tuple[str | int, ...]
    of_name: bool = False
    branches: tuple[tuple[Misfit, ...], ...] = ()
    within: Misfit | None = None

    @property
    def words(self) -> str:
        """In words, for those who wrote the schema or the value."""
        if self.keyword == "required":
            return f"{next(key for key in self.wanted if key not in self.value)!r} is a required property"
        return f"{self.value!r} {_SAID.get(self.keyword, f'does not fit `{self.keyword}`:')} {self.wanted!r}"


_SAID = {
    "type": "is not of type",
    "enum": "is not one of",
    "minimum": "is less than the minimum of",
    "maximum": "is greater than the maximum of",
}


def kind_of(value: Any) -> str:
    """The JSON type of a plain value (or of the value of a node)."""
    if isinstance(value, str):
        return "string"
    if isinstance(value, Mapping):
        return "object"
    if isinstance(value, list):
        return "array"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "integer" if isinstance(value, int) else "number" if isinstance(value, float) else "unknown"


def follow(fragment: Fragment, root: Fragment) -> Fragment:
    """What the `$ref` of a fragment names."""
    for step in fragment["$ref"].removeprefix("#/").split("/"):
        root = root[step]
    return root


def fits(value: Any, fragment: Fragment, root: Fragment) -> bool:
    """Does a value fit a fragment of the schema `root`?"""
    return next(misfits(value, fragment, root), None) is None


def misfits(value: Any, fragment: Fragment, root: Fragment, path: tuple[str | int, ...] = ()) -> Iterator[Misfit]:
    """Everything in which a value, at `path`, does not fit a fragment of the schema `root`, in the order of the
    fragment's keywords."""
    kind = kind_of(value)
    for keyword, wanted in fragment.items():
        if keyword in _OF_VALUES:
            kinds, holds = _OF_VALUES[keyword]
            if kind in kinds and not holds(value, wanted):
                yield Misfit(keyword, wanted, value, fragment, path)
        elif keyword == "propertyNames" and kind == "object":
            for name in value:
                for found in misfits(name, wanted, root, path):
                    yield Misfit(found.keyword, found.wanted, name, found.fragment, path, of_name=True)
        elif keyword == "additionalProperties" and wanted is False and kind == "object":
            if not value.keys() <= fragment.get("properties", {}).keys():
                yield Misfit(keyword, wanted, value, fragment, path)
        elif keyword == "items" and wanted is False and kind == "array":
            if len(value) > len(fragment.get("prefixItems", ())):
                yield Misfit(keyword, wanted, value, fragment, path)
        elif keyword == "anyOf":
            branches: list[tuple[Misfit, ...]] = []
            for branch in wanted:
                branches.append(tuple(misfits(value, branch, root, path)))
                if not branches[-1]:
                    break
            else:
                yield Misfit(keyword, wanted, value, fragment, path, branches=tuple(branches))
        elif keyword == "oneOf":
            if sum(fits(value, branch, root) for branch in wanted) != 1:
                yield Misfit(keyword, wanted, value, fragment, path)
        elif keyword == "not":
            if fits(value, wanted, root):
                yield Misfit(keyword, wanted, value, fragment, path)
        else:
            for part, below, steps in _parts(value, kind, keyword, wanted, fragment, root):
                yield from misfits(part, below, root, (*path, *steps))


# --- what keywords say ---------------------------------------------------------------------------


def same(one: Any, other: Any) -> bool:
    """Equal as JSON is: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(item, other[key]) for key, item in one.items())
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _is_of_type(value: Any, wanted: str | list[str]) -> bool:
    kinds = (wanted,) if isinstance(wanted, str) else wanted
    kind = kind_of(value)
    if kind == "number" and value.is_integer():
        return "number" in kinds or "integer" in kinds
    return kind in kinds or (kind == "integer" and "number" in kinds)


def _are_different(value: list[Any], wanted: bool) -> bool:
    return not wanted or not any(same(item, other) for i, item in enumerate(value) for other in value[:i])


def _has_companions(value: Mapping[str, Any], wanted: Mapping[str, list[str]]) -> bool:
    return all(other in value for key, needed in wanted.items() if key in value for other in needed)


def _of_length(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, wanted: holds(len(value), wanted)


@cache
def _as_python(pattern: str) -> str:
    """A pattern of a schema, whose `$` is the end of the text: Python's also stands before a last line feed, and a
    name would end in one."""
    kept = r"(\\.|\[\^?\]?(?:\\.|[^\]\\])*\])"  # an escaped character, a set of characters
    return re.sub(rf"{kept}|\$", lambda found: found[1] or r"\Z", pattern)


_ANY = ("object", "array", "string", "integer", "number", "boolean", "null", "unknown")
_NUMBERS = ("integer", "number")
# Keyword -> the kinds of values that it is about, and whether one holds to it.
_OF_VALUES: Mapping[str, tuple[tuple[str, ...], Callable[[Any, Any], bool]]] = {
    "type": (_ANY, _is_of_type),
    "enum": (_ANY, lambda value, wanted: any(same(value, choice) for choice in wanted)),
    "const": (_ANY, same),
    "minimum": (_NUMBERS, operator.ge),
    "maximum": (_NUMBERS, operator.le),
    "exclusiveMinimum": (_NUMBERS, operator.gt),
    "exclusiveMaximum": (_NUMBERS, operator.lt),
    "pattern": (("string",), lambda value, wanted: re.search(_as_python(wanted), value) is not None),
    "minLength": (("string",), _of_length(operator.ge)),
    "maxLength": (("string",), _of_length(operator.le)),
    "minItems": (("array",), _of_length(operator.ge)),
    "maxItems": (("array",), _of_length(operator.le)),
    "uniqueItems": (("array",), _are_different),
    "minProperties": (("object",), _of_length(operator.ge)),
    "maxProperties": (("object",), _of_length(operator.le)),
    "required": (("object",), lambda value, wanted: all(key in value for key in wanted)),
    "dependentRequired": (("object",), _has_companions),
}


def _parts(
    value: Any, kind: str, keyword: str, wanted: Any, fragment: Fragment, root: Fragment
) -> Iterator[tuple[Any, Fragment, tuple[str | int, ...]]]:
    """What a keyword holds to other fragments: the part of the value, the fragment, and the steps to the part."""
    match keyword, kind:
        case "$ref", _:
            yield value, follow(fragment, root), ()
        case "properties", "object":
            yield from ((value[key], below, (key,)) for key, below in wanted.items() if key in value)
        case "additionalProperties", "object" if wanted is not False:
            known = fragment.get("properties", {})
            yield from ((item, wanted, (key,)) for key, item in value.items() if key not in known)
        case "items", "array":
            first = len(fragment.get("prefixItems", ()))
            yield from ((item, wanted, (i,)) for i, item in enumerate(value) if i >= first)
        case "prefixItems", "array":
            yield from ((item, below, (i,)) for i, (item, below) in enumerate(zip(value, wanted, strict=False)))
        case "allOf", _:
            yield from ((value, below, ()) for below in wanted)
        case "if", _:
            chosen = "then" if fits(value, wanted, root) else "else"
            if chosen in fragment:
                yield value, fragment[chosen], ()


OF_PARTS = ("$ref", "properties", "additionalProperties", "items", "prefixItems", "allOf", "if", "then", "else")
KEYWORDS = (*_OF_VALUES, *OF_PARTS, "propertyNames", "anyOf", "oneOf", "not")
