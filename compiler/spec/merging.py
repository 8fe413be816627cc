"""Trees laid over trees: short forms spelled out, nulls removed, overlays merged. Positions are kept.

How an overlay merges: mappings merge and the later wins; lists and single values replace; a null removes
the key, unless null is a value there; a mapping that is one of several kinds (`x-either`: a model, a data
source, a batch) replaces the whole one when it names another kind. The variants of a spec are overlays that
wait (`x-overlay`): the nulls in them are kept until they are laid over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from ..diagnostics.diagnostic import Trail
from ..extensions.schema_files import Fragment, kind_of
from .parse import Node
from .structure import Schema


def spell_out(node: Node, schema: Schema, fragment: Fragment) -> Node:
    """Short forms in full: a number that is a weight, a string that is a model, one item for a list."""
    short = schema.resolve(fragment).get("x-short")
    value = node.value
    if short == "weight" and isinstance(value, int | float) and not isinstance(value, bool):
        node = _implied(node, "weight")
    elif short in ("model", "teacher-or-model") and isinstance(value, str):
        if short == "model" or value != "teacher":
            is_path = value.startswith(("./", "../", "/", "${"))
            node = _implied(node, "path" if is_path else "hub")
    elif short == "list" and value is not None and not isinstance(value, list):
        node = _implied(node, 0)
    elif short == "test":
        named = schema.choose(fragment, kind_of(value), value if isinstance(value, dict) else ())
        if isinstance(value, list) or (isinstance(value, dict) and named is not None and "properties" in named):
            node = _implied(node if isinstance(value, list) else _implied(node, 0), "test")
    return _rewrite_children(node, schema, fragment, spell_out)


def _implied(node: Node, step: str | int) -> Node:
    inner = Node(node.value, node.place, None, node.text, implied=True)
    return Node({step: inner} if isinstance(step, str) else [inner], node.place, node.key, implied=node.implied)


def clean(node: Node, schema: Schema, fragment: Fragment) -> Node:
    """Without the keys that are null where null is no value. A required key stays: its absence is a
    mistake that is best shown at the null."""
    if schema.is_overlay(fragment):
        return node
    node = _rewrite_children(node, schema, fragment, clean)
    chosen = schema.choose_for(fragment, node.value)
    if chosen is None or not isinstance(node.value, dict):
        return node
    kept = {key: child for key, child in node.value.items() if not removes(key, child, schema, chosen)}
    return replace(node, value=kept)


def removes(key: str, child: Node, schema: Schema, chosen: Fragment) -> bool:
    """Is the child a null that removes its key?"""
    if child.value is not None or key in schema.required(chosen):
        return False
    below = schema.child(chosen, key)
    return below is not None and not schema.nullable(below)


def removals(node: Node, schema: Schema, fragment: Fragment, path: Trail = ()) -> Iterator[tuple[Trail, Node]]:
    """The nulls of an overlay that remove a key, each with its path. Those of its variants are not among them: they
    remove nothing until the variant is laid over the spec."""
    chosen = schema.choose_for(fragment, node.value)
    if chosen is None or (path and schema.is_overlay(fragment)):
        return
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            below = schema.child(chosen, key)
            if removes(key, child, schema, {**chosen, "required": (), "then": {}}):
                yield (*path, key), child
            elif below is not None:
                yield from removals(child, schema, below, (*path, key))
    elif (item := _alone(node)) is not None:
        yield from removals(item, schema, schema.child(chosen, 0) or {}, (*path, 0))


def merge(base: Node, over: Node, schema: Schema, fragment: Fragment, *, waiting: bool = False) -> Node:
    """`over` laid over `base`; neither is changed. `waiting`: the result is an overlay itself, its nulls are
    kept."""
    waiting = waiting or schema.is_overlay(fragment)

    def finished(node: Node, fragment: Fragment) -> Node:
        return node if waiting else clean(node, schema, fragment)

    if (item := _alone(base)) is not None and (over_item := _alone(over)) is not None:
        items = (schema.choose(fragment, "array") or {}).get("items", {})
        return replace(over, value=[merge(item, over_item, schema, items, waiting=waiting)])
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return finished(over, fragment)
    short = schema.resolve(fragment).get("x-short")
    if short == "test" and (unnamed_test_set(base) is None) != (unnamed_test_set(over) is None):
        return finished(over, fragment)
    chosen = schema.choose_for(fragment, over.value)
    if chosen is None:
        return over
    decided = [key for key in chosen.get("x-either", ()) if key in over.value]
    if decided:
        before = [key for key in chosen["x-either"] if key in base.value]
        if decided != before or any(not isinstance(over.value[key].value, dict) for key in decided):
            return finished(over, fragment)
    merged = dict(base.value)
    for key, child in over.value.items():
        below = schema.child(chosen, key)
        if not waiting and removes(key, child, schema, {**chosen, "required": (), "then": {}}):
            merged.pop(key, None)
        elif below is not None and key in merged:
            merged[key] = merge(merged[key], child, schema, below, waiting=waiting)
        else:
            merged[key] = child if below is None else finished(child, below)
    return Node(merged, over.place, over.key or base.key, implied=base.implied)


def _alone(node: Node) -> Node | None:
    """The one item of a list that was written without brackets."""
    items = node.value
    return items[0] if isinstance(items, list) and len(items) == 1 and items[0].implied else None


def _rewrite_children(
    node: Node, schema: Schema, fragment: Fragment, rewrite: Callable[[Node, Schema, Fragment], Node]
) -> Node:
    """The node with `rewrite` done to each child that the schema knows."""
    chosen = schema.choose_for(fragment, node.value)
    if chosen is None:
        return node

    def visit(child: Node, step: str | int) -> Node:
        below = schema.child(chosen, step)
        return child if below is None else rewrite(child, schema, below)

    if isinstance(node.value, dict):
        return replace(node, value={key: visit(child, key) for key, child in node.value.items()})
    if isinstance(node.value, list):
        return replace(node, value=[visit(child, i) for i, child in enumerate(node.value)])
    return node


def unnamed_test_set(node: Node) -> Node | None:
    """The list of sources of a test set that was written without a name."""
    alone = node.value.get("test") if isinstance(node.value, dict) else None
    return alone if alone is not None and alone.implied else None


def node_at(tree: Node, path: Trail) -> Node | None:
    """What stands at a path of a tree; the one item of a list that was written without brackets need not be named."""
    node: Node | None = tree
    for step in path:
        inside = node.value if node is not None else None
        if isinstance(inside, list) and len(inside) == 1 and inside[0].implied and isinstance(step, str):
            inside = inside[0].value
        if isinstance(inside, dict):
            node = inside.get(str(step))
        elif isinstance(inside, list) and isinstance(step, int) and step < len(inside):
            node = inside[step]
        else:
            node = None
    return node


def is_there(tree: Node, path: Trail) -> bool:
    """Stands anything but a null there?"""
    found = node_at(tree, path)
    return found is not None and found.value is not None
