"""The schemas as the compiler walks them: references followed, alternatives chosen, annotations read.

In: `schema/*.schema.json`, the single source of structure, defaults and descriptions. Beside the words of
JSON Schema they hold these annotations (compiler/README.md):

    x-either    keys of which exactly one decides what a mapping is (a model is hub, path, ...)
    x-short     a short form: `weight`, `model`, `teacher-or-model`, `list`, `test`
    x-location  a string that is a place in the file system: `file` or `folder`
    x-words     what a `pattern` means, in words
    x-metrics   names of metrics belong here: `all`, or those `measured` by an evaluation
    x-overlay   a variant: it is made as the whole spec is
    x-with      the task, or the value of a key beside it, with which alone a key has its default
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from ..extensions.extension_schema import extend_schema
from ..extensions.installed import installed
from ..extensions.schema_files import FOLDER, Fragment, fits, follow, kind_of, read_schema

LINE = 120  # characters of a line of a schema


class Schema:
    """One schema file. A fragment is a part of it; the methods follow `$ref` themselves."""

    def __init__(self, root: Fragment) -> None:
        self.root = root
        self._resolved: dict[int, tuple[Fragment, Fragment]] = {}  # by id; the fragment is held, so that it keeps it

    def resolve(self, fragment: Fragment) -> Fragment:
        """The fragment with its `$ref` followed; what stands beside the reference wins."""
        if "$ref" not in fragment:
            return self.root if fragment.get("x-overlay") else fragment
        if id(fragment) not in self._resolved:
            beside = {key: value for key, value in fragment.items() if key != "$ref"}
            self._resolved[id(fragment)] = fragment, self.resolve({**follow(fragment, self.root), **beside})
        return self._resolved[id(fragment)][1]

    def is_overlay(self, fragment: Fragment) -> bool:
        """Is this a variant?"""
        return fragment.get("$ref") == "#/$defs/overlay"

    def choose(self, fragment: Fragment, kind: str, keys: Iterable[str] = ()) -> Fragment | None:
        """The alternative for a value of JSON type `kind` (with these keys, if a mapping); None: no
        alternative takes it. A mapping goes where its keys are known."""
        fragment = self.resolve(fragment)
        if "anyOf" not in fragment:
            return fragment if kind in self.kinds(fragment) else None
        keys = list(keys)
        best: tuple[int, Fragment] | None = None
        for branch in fragment["anyOf"]:
            chosen = self.choose(branch, kind, keys)
            if chosen is None:
                continue
            fixed = chosen.get("properties")
            score = sum(key in fixed for key in keys) if fixed is not None else (0 if keys else -1)
            if fixed is not None and not score:
                score = -1
            if best is None or score > best[0]:
                best = (score, chosen)
        return best[1] if best else None

    def choose_for(self, fragment: Fragment, value: Any) -> Fragment | None:
        """The alternative for a plain value, or for that of a node."""
        return self.choose(fragment, kind_of(value), value if isinstance(value, Mapping) else ())

    def required(self, fragment: Fragment) -> tuple[str, ...]:
        """The keys that must be there. A spec has all of its own once what it extends is laid below it."""
        return tuple(fragment.get("required", fragment.get("then", {}).get("required", ())))

    def kinds(self, fragment: Fragment) -> tuple[str, ...]:
        """The JSON types that a fragment takes."""
        fragment = self.resolve(fragment)
        if "anyOf" in fragment:
            found = [kind for branch in fragment["anyOf"] for kind in self.kinds(branch)]
            return tuple(dict.fromkeys(found))
        kinds = fragment.get("type", ())
        kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        return (*kinds, "integer") if "number" in kinds else kinds

    def child(self, fragment: Fragment, step: str | int) -> Fragment | None:
        """The fragment of a key of a mapping or an item of a list; None: not known there."""
        if isinstance(step, int):
            found = fragment.get("items")
        elif step in fragment.get("properties", {}):
            found = fragment["properties"][step]
        else:
            found = fragment.get("additionalProperties")
        return found if isinstance(found, Mapping) else None

    def at(self, path: Iterable[str | int]) -> Fragment | None:
        """The fragment of a path, through whichever alternative knows its steps; None: there is no such path."""
        fragment: Fragment | None = self.root
        for step in path:
            if fragment is None:
                return None
            chosen = self.choose(fragment, "array" if isinstance(step, int) else "object", (str(step),))
            fragment = None if chosen is None else self.child(chosen, step)
        return fragment

    def takes(self, fragment: Fragment, value: Any) -> bool:
        """Does the value fit the fragment?"""
        return fits(value, self.resolve(fragment), self.root)

    def nullable(self, fragment: Fragment) -> bool:
        """Is null a value here?"""
        return "null" in self.kinds(fragment)

    def example(self, fragment: Fragment) -> Any:
        """The first example of a fragment; of an item without its own, a value of its type."""
        fragment = self.resolve(fragment)
        if "examples" in fragment:
            return fragment["examples"][0]
        if "anyOf" in fragment:
            return self.example(fragment["anyOf"][0])
        if fragment.get("minItems") and isinstance(fragment.get("items"), Mapping):
            return [self.example(fragment["items"])]
        plain = {"object": {}, "array": [], "string": "text", "boolean": True}
        return plain.get(self.kinds(fragment)[0], fragment.get("minimum", 1))

    def key_paths(self) -> Iterator[tuple[str, ...]]:
        """The paths of all keys with a fixed name, outermost first."""

        def visit(fragment: Fragment, path: tuple[str, ...], seen: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
            reference = fragment.get("$ref")
            if reference in seen:
                return
            seen = (*seen, reference) if reference else seen
            fragment = self.resolve(fragment)
            for branch in fragment.get("anyOf", ()):
                yield from visit(branch, path, seen)
            for key, below in fragment.get("properties", {}).items():
                yield (*path, key)
                yield from visit(below, (*path, key), seen)

        yield from sorted(visit(self.root, (), ()), key=len)


@cache
def load_schema(name: str) -> Schema:
    """The schema `experiment`, with what is registered in it, or `site`."""
    root = read_schema(name)
    if name == "experiment":
        root = extend_schema(root, installed())
    return Schema(root)


def schema_text(name: str) -> str:
    """A schema as text: the file itself, unless something is registered that is not in it."""
    text = (FOLDER / f"{name}.schema.json").read_text("utf-8")
    root = load_schema(name).root
    return text if root == json.loads(text) else _laid_out(root) + "\n"


def _laid_out(value: Any, indent: int = 0, before: int = 0) -> str:
    """JSON of lines of 120 characters: what fits on one stands on one. `before`: characters before it on its line."""
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, dict | list) or not value or before + len(flat) < LINE:
        return flat
    pad = " " * (indent + 2)
    if isinstance(value, dict):
        heads = [f"{json.dumps(key, ensure_ascii=False, allow_nan=False)}: " for key in value]
        ends, items = "{}", list(value.values())
    else:
        ends, items, heads = "[]", value, [""] * len(value)
    lines = [
        f"{pad}{head}{_laid_out(item, indent + 2, indent + 2 + len(head))}"
        for head, item in zip(heads, items, strict=True)
    ]
    return f"{ends[0]}\n" + ",\n".join(lines) + f"\n{' ' * indent}{ends[1]}"


def rewrite(
    value: Any, schema: Schema, fragment: Fragment, change: Callable[[dict[str, Any], Fragment], dict[str, Any]]
) -> Any:
    """A copy of a value in which each mapping that the schema knows is what `change` makes of it and its fragment, the
    innermost first."""
    chosen = schema.choose_for(fragment, value)
    if chosen is None or not isinstance(value, Mapping | list):
        return value

    def inside(step: str | int, item: Any) -> Any:
        below = schema.child(chosen, step)
        return item if below is None else rewrite(item, schema, below, change)

    if isinstance(value, list):
        return [inside(i, item) for i, item in enumerate(value)]
    return change({key: inside(key, item) for key, item in value.items()}, chosen)


def with_defaults(schema: Schema, fragment: Fragment, value: Any, task: str | None = None) -> Any:
    """A copy of a valid value in which every key that has a `default` is there. `task`: with those that wait for it
    or for another key (`x-with`, `dependentRequired`), which are left out else."""

    def fill(mapping: dict[str, Any], chosen: Fragment) -> dict[str, Any]:
        for key, below in chosen.get("properties", {}).items():
            resolved = schema.resolve(below)
            if key not in mapping and "default" in resolved and _is_default(key, resolved, chosen, mapping, task):
                mapping[key] = with_defaults(schema, below, resolved["default"], task)
        return mapping

    return rewrite(value, schema, fragment, fill)


def _is_default(key: str, fragment: Fragment, holder: Fragment, beside: Mapping[str, Any], task: str | None) -> bool:
    """Is the default of a key one here, with these keys `beside` it?"""
    wanted, companions = fragment.get("x-with", {}), holder.get("dependentRequired", {}).get(key, ())
    if task is None:
        return not wanted and not companions
    there = {"task": task, **beside}
    return there.keys() >= {*companions} and all(there.get(name) == value for name, value in wanted.items())
