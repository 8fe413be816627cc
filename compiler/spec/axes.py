"""The matrix of a spec, or of one of its variants: the paths that it varies, what it leaves out, and what it calls
its values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..diagnostics.diagnostic import Reporter, Trail, did_you_mean, listed, quoted
from ..diagnostics.record import record
from .overrides import Assignment, split_path
from .parse import Node

OF_A_SPEC = ("version", "name", "extends", "variants", "matrix", "seeds", "expect")  # no values of one run
NOT_IN_A_MATRIX = tuple(key for key in OF_A_SPEC if key != "expect")


@record
class Axis:
    """One path of the matrix: what it assigns, and the suffix that each value gives a run's name."""

    path: str
    key: Node
    assignments: tuple[Assignment, ...]
    suffixes: tuple[str, ...]


def read_axes(node: Node | None, overrides: Sequence[Assignment], reporter: Reporter) -> list[Axis]:
    """The paths of a matrix that can be varied. `overrides`: the values of the command line.

    Reports E311 (a path that cannot be varied) and E315 (one that the command line sets).
    """
    if node is None or not isinstance(node.value, dict):
        return []
    axes: list[Axis] = []
    paths = [path for path in node.value if path != "exclude"]
    names = _axis_names(paths)
    for path in paths:
        values = node.value[path]
        place = values.key or values.place
        steps = split_path(path, place)
        first = steps[0][0] if steps else None
        if steps is None or first in NOT_IN_A_MATRIX:
            reporter.error_at(
                "E311",
                place,
                f"`{path}` cannot be varied: " + ("it is no path" if steps is None else "it is not a setting of a run"),
                "write a dotted path such as student.decoder_layers",
                ("matrix", path),
            )
            continue
        below = [given for given in overrides if given.names[: len(steps)] == tuple(step for step, _ in steps)]
        if below:
            tell_set_and_varied(below[0], path, reporter)
            continue
        if (other := next((axis for axis in axes if _overlap(axis.path, path)), None)) is not None:
            reporter.error_at(
                "E311",
                place,
                f"`{path}` and `{other.path}` set the same value",
                "vary one of them",
                ("matrix", path),
            )
            continue
        assert isinstance(values.value, list)
        assignments = tuple(Assignment(steps, value) for value in values.value)
        axes.append(Axis(path, values, assignments, _suffixes(names[path], [plain(v) for v in values.value])))
    return axes


def tell_set_and_varied(given: Assignment, path: str, reporter: Reporter) -> None:
    """A value of the command line would be that of all runs."""
    reporter.error_at(
        "E315",
        given.steps[0][1],
        f"`{path}` is varied by the matrix, and cannot be set for all runs",
        f"write --set 'matrix.{path}=[...]'",
        ("matrix", path),
    )


def read_exclusions(matrix: Node | None, axes: Iterable[Axis], reporter: Reporter) -> list[Mapping[str, Any]]:
    """The combinations that a matrix leaves out. `axes`: those of all variants, as one may vary less than the spec.
    Reports E312."""
    found: list[Mapping[str, Any]] = []
    node = matrix.value.get("exclude") if matrix is not None and isinstance(matrix.value, dict) else None
    if node is None or not isinstance(node.value, list):
        return found
    known: dict[str, list[Any]] = {}
    for axis in axes:
        known.setdefault(axis.path, []).extend(plain(assignment.value) for assignment in axis.assignments)
    for i, item in enumerate(node.value):
        assert isinstance(item.value, dict)
        path: Trail = ("matrix", "exclude", i)
        for name, value in item.value.items():
            if name not in known:
                near = did_you_mean(name, known)
                hint = f"did you mean {near}?" if near else f"its paths are {listed(known, 'and')}"
                if name == "variant":
                    hint = "a variant that is not to be varied says so itself: write `matrix: null` in it"
                reporter.error_at(
                    "E312",
                    value.key or value.place,
                    f"{quoted(name)} is not a path of this matrix",
                    hint,
                    (*path, name),
                )
            elif not any(same(plain(value), other) for other in known[name]):
                reporter.error_at(
                    "E312",
                    value.place,
                    f"{name} never has the value {quoted(plain(value))}: this excludes nothing",
                    f"its values are {listed(dict.fromkeys(quoted(other) for other in known[name]), 'and')}",
                    (*path, name),
                )
        found.append({name: plain(value) for name, value in item.value.items()})
    return found


def check_left_out(overlays: Mapping[str, Node], matrix: Node | None, reporter: Reporter) -> None:
    """What a variant takes out of the spec's matrix is in it. Reports E312."""
    there = matrix.value if matrix is not None and isinstance(matrix.value, dict) else {}
    for name, overlay in overlays.items():
        own = overlay.value.get("matrix") if isinstance(overlay.value, dict) else None
        for path, value in own.value.items() if own is not None and isinstance(own.value, dict) else ():
            if value.value is None and path not in there:
                near = did_you_mean(path, there)
                reporter.error_at(
                    "E312",
                    value.key or value.place,
                    f"{quoted(path)} is not a path of the matrix: there is nothing to leave out",
                    f"did you mean {near}?" if near else f"its paths are {listed(there, 'and')}",
                    ("variants", name),
                )


def _overlap(one: str, other: str) -> bool:
    """Is one path the other, or a part of it?"""
    return one == other or any(a.startswith((f"{b}.", f"{b}[")) for a, b in ((one, other), (other, one)))


# --- names and values ---


def _axis_names(paths: Sequence[str]) -> dict[str, str]:
    """A short name for each path: its last key, or as many as are needed to tell it from the others."""
    names = {}
    for path in paths:
        steps = re.findall(r"[^.\[\]]+", path)
        for length in range(1, len(steps) + 1):
            name = ".".join(steps[-length:])
            if sum(other in (path, name) or other.endswith(f".{name}") for other in paths) == 1:
                break
        names[path] = name
    return names


def _suffixes(name: str, values: Sequence[Any]) -> tuple[str, ...]:
    """`decoder_layers-3`; values that read alike get their number."""
    words = [slug(value) for value in values]
    return tuple(
        f"{name}-{word}" if word and words.count(word) == 1 else f"{name}-{'-'.join(filter(None, [word, str(i)]))}"
        for i, word in enumerate(words, 1)
    )


def slug(value: Any) -> str:
    """A value as a part of a name: letters, digits, `.`, `_` and `-`."""
    if isinstance(value, Mapping):
        inner = [slug(item) for item in value.values()]
        text = "-".join(inner) if len(inner) == 1 else ""
    elif isinstance(value, list):
        text = "-".join(slug(item) for item in value)
    elif isinstance(value, float):
        text = f"{value:g}"
    elif value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    else:
        text = str(value).rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:40]


def plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def same(one: Any, other: Any) -> bool:
    """Equal, and a boolean is no number."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
