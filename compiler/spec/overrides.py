"""Values put at a path of a tree: those of the matrix, and those of the command line, `--set path=value`, which
in messages are the lines of a file that is called `--set`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..diagnostics.diagnostic import Position, Reporter, Trail, dotted, listed, quoted
from ..diagnostics.record import record
from ..extensions.schema_files import Fragment
from .merging import merge, spell_out, unnamed_test_set
from .parse import Files, Node, parse_value
from .structure import Schema

SET = "--set"

STEP = re.compile(r"(?:^|\.)([^.\[\]=]+)|\[([0-9]{1,6})\]")


Steps = list[tuple[str | int, Position]]


@record
class Assignment:
    """A value to be put at a path. Each step knows where it was written."""

    steps: Steps
    value: Node

    @property
    def names(self) -> Trail:
        """The path: the steps without their places."""
        return tuple(step for step, _ in self.steps)


def read_overrides(overrides: Sequence[str], files: Files, reporter: Reporter) -> list[Assignment]:
    """The `path=value` of the command line; one that is no path or no YAML is reported and left out."""
    if not overrides:
        return []
    files.texts[SET] = "\n".join(" ".join(override.split("\n")) for override in overrides)
    files.folders[SET] = Path.cwd()
    found = []
    for line, override in enumerate(overrides, 1):
        text, _, value_text = " ".join(override.split("\n")).partition("=")
        steps = split_path(text, Position(SET, line, 1))
        if not value_text.strip() or (steps is not None and steps[0][0] == "extends"):
            reporter.error_at(
                "E305",
                Position(SET, line, 1),
                f"{quoted(text)} has no value" if not value_text.strip() else "`extends` cannot be set",
                f"write {text}=null to remove it" if not value_text.strip() else "write it into a spec",
            )
            continue
        if steps is None:
            reporter.error_at(
                "E305",
                Position(SET, line, 1),
                f"{quoted(text)} is not a path",
                "write --set stopping.max_epochs=3, or --set data.train[0].limit=100",
            )
            continue
        # Blanks in place of the path, so that the value's positions are those on the command line.
        value = parse_value("\n" * (line - 1) + " " * (len(text) + 1) + value_text, SET, reporter)
        if value is not None:
            found.append(Assignment(steps, value))
    return found


def split_path(text: str, place: Position) -> Steps | None:
    """`data.train[0].limit` -> its steps, each with its place; None: it is no path. `place`: of the text."""
    steps: Steps = []
    end = 0
    for found in STEP.finditer(text):
        if found.start() != end:
            return None
        end = found.end()
        key, index = found.groups()
        step, start = (int(index), found.start()) if key is None else (key, found.start(1))
        steps.append((step, Position(place.file, place.line, place.column + start)))
    whole = steps and end == len(text) and not text.startswith((".", "["))
    return steps if whole else None


def assign(
    node: Node,
    steps: Steps,
    value: Node,
    schema: Schema,
    fragment: Fragment,
    reporter: Reporter,
    path: Trail = (),
    *,
    waiting: bool = False,
) -> Node:
    """The node with the value put at the end of `steps`, which start below it, at `path`. Reports E305, and W319
    where more goes than was named. `waiting`: the node is a part of a variant, its nulls are kept."""
    waiting = waiting or schema.is_overlay(fragment)
    if not steps:
        return merge(node, spell_out(value, schema, fragment), schema, fragment, waiting=waiting)
    step, key_place = steps[0]
    if isinstance(node.value, list):
        if isinstance(step, str) and len(node.value) == 1 and node.value[0].implied:
            steps, step = [(0, key_place), *steps], 0
        if isinstance(step, str) or step >= len(node.value):
            count = len(node.value)
            reporter.error_at(
                "E305",
                key_place,
                f"`{dotted(path)}` is a list with {count} item{'s' if count != 1 else ''}",
                f"write {dotted(path)}[0]" + (f" to {dotted(path)}[{count - 1}]" if count > 1 else ""),
                path,
            )
            return node
        items = list(node.value)
        below = _child(schema, fragment, step)
        inside = path if items[step].implied else (*path, step)  # as it was written
        items[step] = assign(items[step], steps[1:], value, schema, below, reporter, inside, waiting=waiting)
        return replace(node, value=items)
    there = node.value if isinstance(node.value, dict) else {}
    # A test set of its own that was written without a name is called `test`: step into it.
    if (alone := unnamed_test_set(node)) is not None and (isinstance(step, int) or step not in there):
        below = _child(schema, fragment, "test")
        alone = assign(alone, steps, value, schema, below, reporter, path, waiting=waiting)
        return replace(node, value={"test": alone})
    if isinstance(step, int) or not isinstance(node.value, dict | None):
        what = "a mapping" if there else f"the single value {quoted(node.value)}"
        reporter.error_at(
            "E305",
            key_place,
            f"`{dotted(path)}` is {what}, there is no `{step}` in it",
            f"set `{dotted(path)}` itself" if path else "",
            path,
        )
        return node
    child = there.get(step)
    if len(steps) > 1 and child is not None and isinstance(child.value, dict | list):
        below = _child(schema, fragment, step)
        inner = assign(child, steps[1:], value, schema, below, reporter, (*path, step), waiting=waiting)
        return replace(node, value={**there, step: inner})
    merged = merge(node, spell_out(_nested(steps, value), schema, fragment), schema, fragment, waiting=waiting)
    if not waiting:
        _tell_lost(node, merged, schema, fragment, steps, (*path, step), reporter)
    # The mapping still stands where it stood: only a value in it comes from the command line.
    return replace(merged, place=node.place, key=node.key, implied=node.implied)


def _tell_lost(
    before: Node, after: Node, schema: Schema, fragment: Fragment, steps: Steps, path: Trail, reporter: Reporter
) -> None:
    """One key was named, and the either-or mapping that it decides was replaced whole: say what went with it. What
    goes with one of the kinds (the revision of a hub's model) goes silently with it."""
    inside = before.value if isinstance(before.value, dict) else {}
    there = after.value if isinstance(after.value, dict) else {}
    chosen = schema.choose(fragment, "object", inside) or {}
    either, companions = chosen.get("x-either", ()), chosen.get("dependentRequired", {})
    if path[-1] not in either:
        return
    lost = [key for key in inside if key not in (*there, *either) and not {*companions.get(key, ())} & {*either}]
    if not lost:
        return
    whole = dotted(path[:-1])
    place = inside[lost[0]].key or inside[lost[0]].place
    reporter.warning_at(
        "W319",
        steps[0][1],
        f"`{dotted(path)}` replaces the whole of `{whole}`: {listed((f'`{key}`' for key in lost), 'and')} "
        f"({place.file}:{place.line}:{place.column}) {'is' if len(lost) == 1 else 'are'} lost",
        f"set `{whole}` itself, to a mapping that has {'it' if len(lost) == 1 else 'them'} too",
        path,
    )


def _child(schema: Schema, fragment: Fragment, step: str | int) -> Fragment:
    chosen = schema.choose(fragment, "array" if isinstance(step, int) else "object", [str(step)])
    return (schema.child(chosen, step) if chosen is not None else None) or {}


def _nested(steps: Steps, value: Node) -> Node:
    """The overlay `{a: {b: value}}` of a path `a.b`."""
    for step, place in reversed(steps):
        value = Node({str(step): replace(value, key=place)}, place)
    return value
