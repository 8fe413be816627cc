"""Files and options -> one tree, positions kept.

In: a spec, the files that it extends, the `--set` options. Out: one `Node` tree in which short forms are
spelled out and overlays merged, and every value still knows who wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os.path import isfile
from pathlib import Path

from ..diagnostics.diagnostic import Reporter, Trail, dotted, quoted, shown_path
from ..diagnostics.record import record
from ..diagnostics.regular_file import real_path
from .merging import is_there, merge, removals, removes, spell_out
from .overrides import Assignment, Steps, assign, read_overrides
from .parse import Files, Node, near_file, read_source
from .paths import possible_path
from .structure import Schema

MAX_CHAIN = 20


FRAME = ("variants", "matrix", "seeds", "expect")  # set before the runs are made: it makes them
LAID_LAST = ("seeds", "expect")  # of those, what a variant may say of itself, too


@record
class Composed:
    """`tree`: of the spec; `later`: the values of the command line that are to be laid over each of its runs;
    `removed`: what a null took out of the spec, by its path, with the null."""

    tree: Node
    later: list[Assignment]
    removed: Mapping[Trail, Node]


def compose(
    path: Path, overrides: tuple[str, ...], schema: Schema, files: Files, reporter: Reporter
) -> Composed | None:
    """The tree of a spec. None: it could not be read, and `reporter` says why."""
    removed: dict[Trail, Node] = {}
    tree = read_with_bases(path, str(path), schema, files, reporter, (), removed)
    if tree is None:
        return None
    later: list[Assignment] = []
    for assignment in read_overrides(overrides, files, reporter):
        steps = assignment.steps
        if steps[0][0] not in FRAME:
            later.append(assignment)
            continue
        tree = assign(tree, _with_path(steps), assignment.value, schema, schema.root, reporter)
        if steps[0][0] in LAID_LAST:
            tree = _in_variants(tree, assignment, schema, reporter)
    assert isinstance(tree.value, dict)
    kept = {key: node for key, node in tree.value.items() if not removes(key, node, schema, schema.root)}
    if "matrix" in kept and kept["matrix"].value == {} and any(path[0] == "matrix" for path in removed):
        del kept["matrix"]  # a file that extends another one left out all of its paths
    return Composed(replace(tree, value=kept), later, removed)


def _with_path(steps: Steps) -> Steps:
    """The steps with the path of a matrix, that of the spec or of a variant, as one key."""
    names = [step for step, _ in steps]
    at = 1 if names[0] == "matrix" else 3 if names[0] == "variants" and names[2:3] == ["matrix"] else len(steps)
    return [*steps[:at], *([(dotted(tuple(names[at:])), steps[at][1])] if at < len(steps) else [])]


def _in_variants(tree: Node, assignment: Assignment, schema: Schema, reporter: Reporter) -> Node:
    """The tree with the assignment done in the variants, too, that say something of that section themselves: the
    command line is laid over every run, last."""
    assert isinstance(tree.value, dict)
    variants = tree.value.get("variants")
    if variants is None or not isinstance(variants.value, dict):
        return tree
    for name, overlay in variants.value.items():
        if isinstance(overlay.value, dict) and assignment.steps[0][0] in overlay.value:
            place = assignment.steps[0][1]
            steps: Steps = [("variants", place), (name, place), *assignment.steps]
            tree = assign(tree, steps, assignment.value, schema, schema.root, reporter)
    return tree


def read_with_bases(
    path: Path,
    name: str,
    schema: Schema,
    files: Files,
    reporter: Reporter,
    chain: tuple[str, ...],
    removed: dict[Trail, Node],
) -> Node | None:
    """A spec laid over the specs that it extends. `chain`: the files that extend it, innermost first. `removed`
    takes the nulls that took something out, by its path, and loses those of what was put in again."""
    files.chains[name] = chain
    source = read_source(path, name, reporter, files.texts)
    if source is None:
        return None
    files.folders[name] = real_path(path).parent
    tree = spell_out(source.tree, schema, schema.root)
    assert isinstance(tree.value, dict)
    named = tree.value.pop("extends", None)
    result: Node | None = None
    bases = _bases(named, name, files, reporter, (*chain, name))
    for base in bases:
        below = read_with_bases(base, shown_path(base), schema, files, reporter, (name, *chain), removed)
        if below is None:
            files.complete = False
        else:
            result = below if result is None else merge(result, below, schema, schema.root)
    result = tree if result is None else merge(result, tree, schema, schema.root)
    removed.update(removals(tree, schema, schema.root))
    for gone in [gone for gone in removed if is_there(result, gone)]:
        del removed[gone]
    return result


def _bases(named: Node | None, name: str, files: Files, reporter: Reporter, open_files: tuple[str, ...]) -> list[Path]:
    """The paths in `extends` that can be read; a diagnosis for each of the others."""
    if named is None:
        return []
    items = named.value if isinstance(named.value, list) else [named]
    if not items:
        reporter.error_at(
            "E209",
            named.place,
            "`extends` must have at least 1 entry, it has 0",
            "name a file, or remove `extends`",
            ("extends",),
        )
        files.complete = False
    found: list[Path] = []
    for item in items:
        if not isinstance(item.value, str) or not item.value or not possible_path(item.value):
            reporter.error_at(
                "E203",
                item.place,
                "`extends` must be a path or a list of paths",
                "extends: base.yaml",
                ("extends",),
            )
            continue
        path = files.folders[name] / item.value
        if any(real_path(other) == real_path(path) for other in open_files):
            reporter.error_at(
                "E302",
                item.place,
                f"{quoted(item.value)} extends this file in turn: `extends` is circular",
                "move what both need into a third file",
                ("extends",),
            )
        elif len(open_files) > MAX_CHAIN:
            reporter.error_at(
                "E302",
                item.place,
                f"more than {MAX_CHAIN} files extend one another",
                "merge some of them",
                ("extends",),
            )
        elif not isfile(path):
            near = near_file(path)
            reporter.error_at(
                "E301",
                item.place,
                f"there is no file {shown_path(path)}",
                f"did you mean {Path(item.value).parent / near.name}?" if near else f"the path is relative to {name}",
                ("extends",),
            )
        else:
            found.append(path)
    files.complete &= len(found) == len(items)
    return found
