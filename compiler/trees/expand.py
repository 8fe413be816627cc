"""One composed spec -> its runs: variants laid over it, the matrix multiplied out, one run a seed.

In: the tree of a spec in which `variants`, `matrix`, `seeds` and `expect` are well-formed. Out: one tree a
run, without the first two, with one seed, and with what is expected of this run alone. Sections that are the
same in several runs are the same `Node` in all of them, so that later stages look at each once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from typing import Any

from ..diagnostics import Position, Reporter, Trail, did_you_mean, listed, quoted
from ..experiment import EXPECTED
from ..parse import Node
from .merging import merge
from .overrides import Assignment, assign, split_path
from .structure import Schema

MAX_RUNS = 10_000
MAX_LABEL = 120  # characters; a name becomes a folder
OF_A_SPEC = ("version", "name", "extends", "variants", "matrix", "seeds", "expect")  # no values of one run
NOT_IN_A_MATRIX = tuple(key for key in OF_A_SPEC if key != "expect")


@dataclass(frozen=True)
class Point:
    """One run before it is typed. `label` is its name without the name of the spec ("" when it is the only
    one); `replicated` that name without the seed: what all replicates are called."""

    tree: Node
    label: str
    variant: str | None
    seed: int | None
    replicated: str

    @property
    def names(self) -> tuple[str, ...]:
        """What `expect` may call it, the widest first."""
        return tuple(dict.fromkeys(name for name in (self.variant, self.replicated, self.label) if name))


@dataclass(frozen=True)
class Axis:
    """One path of the matrix: what it assigns, and the suffix that each value gives a run's name."""

    path: str
    key: Node
    assignments: tuple[Assignment, ...]
    suffixes: tuple[str, ...]


@dataclass
class Expansion:
    """`overrides` are laid over every run, last. Diagnoses are about the spec, not about one run."""

    schema: Schema
    reporter: Reporter
    overrides: Sequence[Assignment] = ()
    _assigned: dict[tuple[int, int], tuple[Any, ...]] = field(default_factory=dict)
    _expected: dict[tuple[int, ...], Node] = field(default_factory=dict)

    def expand(self, tree: Node) -> list[Point]:
        """The runs of a spec, in the order variants, matrix, seeds as they are written.

        Reports E311 (a path of the matrix that cannot vary), E312 (an exclusion of nothing), E313 (too many
        runs, or none left), E314 (a name in `expect` that is nobody's), E315 (the command line sets what the
        matrix varies), E316 (two runs of one name).
        """
        assert isinstance(tree.value, dict)
        base = replace(tree, value={key: node for key, node in tree.value.items() if key not in ("variants", "matrix")})
        variants: dict[str | None, Node] = {None: base}
        if (named := tree.value.get("variants")) is not None and isinstance(named.value, dict):
            variants = {name: self._variant(base, overlay) for name, overlay in named.value.items()}
        axes, excluded = self._matrix(tree.value.get("matrix"))
        if named is not None and isinstance(named.value, dict):
            self._check_undone(named.value, axes)
        points = list(self._points(variants, axes, excluded, tree))
        self._check_names(points, tree)
        self._check_expected(points, tree)
        return [self._with_expected(point) for point in points]

    def _variant(self, base: Node, overlay: Node) -> Node:
        return replace(merge(base, overlay, self.schema, self.schema.root), place=base.place, key=base.key)

    # --- the matrix --------------------------------------------------------------------------------

    def _matrix(self, node: Node | None) -> tuple[list[Axis], list[Mapping[str, Any]]]:
        if node is None or not isinstance(node.value, dict):
            return [], []
        axes: list[Axis] = []
        paths = [path for path in node.value if path != "exclude"]
        names = _axis_names(paths)
        overridden = {str(assignment.steps[0][0]): assignment for assignment in self.overrides}
        for path in paths:
            values = node.value[path]
            place = values.key or values.place
            steps = split_path(path, place)
            first = steps[0][0] if steps else None
            if steps is None or first in NOT_IN_A_MATRIX:
                self._refuse(
                    "E311",
                    place,
                    f"`{path}` cannot be varied: " + ("it is no path" if steps is None else "it is no value of a run"),
                    "write a dotted path such as student.decoder_layers",
                    ("matrix", path),
                )
                continue
            if (given := overridden.get(str(first))) is not None and [s for s, _ in given.steps][: len(steps)] == [
                s for s, _ in steps
            ]:
                self._refuse(
                    "E315",
                    given.steps[0][1],
                    f"`{path}` is varied by the matrix, it cannot be set for all runs",
                    f"write --set 'matrix.{path}=[...]'",
                    ("matrix", path),
                )
                continue
            if (other := next((axis for axis in axes if _overlap(axis.path, path)), None)) is not None:
                self._refuse(
                    "E311",
                    place,
                    f"`{path}` and `{other.path}` are about the same value: one would undo the other",
                    "vary one of them",
                    ("matrix", path),
                )
                continue
            assert isinstance(values.value, list)
            assignments = tuple(Assignment(steps, value) for value in values.value)
            axes.append(Axis(path, values, assignments, _suffixes(names[path], [_plain(v) for v in values.value])))
        return axes, self._excluded(node.value.get("exclude"), axes)

    def _excluded(self, node: Node | None, axes: Sequence[Axis]) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        if node is None or not isinstance(node.value, list):
            return found
        known = {axis.path: [_plain(assignment.value) for assignment in axis.assignments] for axis in axes}
        for i, item in enumerate(node.value):
            assert isinstance(item.value, dict)
            path: Trail = ("matrix", "exclude", i)
            for name, value in item.value.items():
                if name not in known:
                    near = did_you_mean(name, known)
                    self._refuse(
                        "E312",
                        value.key or value.place,
                        f"{quoted(name)} is no path of this matrix",
                        f"did you mean {near}?" if near else f"its paths are {listed(known, 'and')}",
                        (*path, name),
                    )
                elif not any(_same(_plain(value), other) for other in known[name]):
                    self._refuse(
                        "E312",
                        value.place,
                        f"{name} is never {quoted(_plain(value))}: this excludes nothing",
                        f"its values are {listed((quoted(other) for other in known[name]), 'and')}",
                        (*path, name),
                    )
            found.append({name: _plain(value) for name, value in item.value.items()})
        return found

    # --- the runs ----------------------------------------------------------------------------------

    def _points(
        self,
        variants: Mapping[str | None, Node],
        axes: Sequence[Axis],
        excluded: Sequence[Mapping[str, Any]],
        tree: Node,
    ) -> Iterator[Point]:
        count = prod(len(axis.assignments) for axis in axes) * len(variants)
        if count > MAX_RUNS:
            self._too_many(count, tree)
            axes = [replace(axis, assignments=axis.assignments[:1], suffixes=axis.suffixes[:1]) for axis in axes]
            variants = dict(list(variants.items())[:MAX_RUNS])
        kept = made = 0
        for variant, below in variants.items():
            for choice in product(*(range(len(axis.assignments)) for axis in axes)):
                values = {axis.path: _plain(axis.assignments[i].value) for axis, i in zip(axes, choice, strict=True)}
                if any(_matches(exclusion, values) for exclusion in excluded):
                    continue
                kept += 1
                point = below
                for axis, i in zip(axes, choice, strict=True):
                    point = self._put(point, axis.assignments[i])
                if kept == 1:
                    self._check_kept(point, axes)
                for assignment in self.overrides:
                    point = self._put(point, assignment)
                words = [variant] if variant is not None else []
                words += [axis.suffixes[i] for axis, i in zip(axes, choice, strict=True)]
                for made_here in self._seeds(point, words, variant):
                    made += 1
                    if made > MAX_RUNS:
                        self._too_many(made, tree, "seeds")
                        return
                    yield made_here
        if not kept and excluded:
            place = self._place_of_exclusions(tree)
            self._refuse("E313", place, "every run is excluded", "leave one", ("matrix", "exclude"))

    def _place_of_exclusions(self, tree: Node) -> Position:
        matrix = tree.value["matrix"].value if isinstance(tree.value, dict) else None
        return matrix["exclude"].place if isinstance(matrix, dict) else tree.place

    def _seeds(self, tree: Node, words: list[str], variant: str | None) -> Iterator[Point]:
        """One run a seed; a name speaks of seeds only where there are several."""
        assert isinstance(tree.value, dict)
        node = tree.value.get("seeds")
        if node is None or not isinstance(node.value, list) or len(node.value) < 2:
            yield Point(tree, _label(words), variant, None, _label(words))
            return
        for seed in node.value:
            alone = self._remember((id(node), id(seed)), lambda node=node, seed=seed: replace(node, value=[seed]), node)
            yield Point(
                replace(tree, value={**tree.value, "seeds": alone}),
                _label([*words, f"seed{_slug(_plain(seed))}"]),
                variant,
                seed.value if isinstance(seed.value, int) else None,
                _label(words),
            )

    def _put(self, tree: Node, assignment: Assignment) -> Node:
        """The tree with the assignment done; equal sections stay the same node."""
        assert isinstance(tree.value, dict)
        first = assignment.steps[0][0]
        child = tree.value.get(str(first))
        if isinstance(first, int):
            return assign(tree, assignment.steps, assignment.value, self.schema, self.schema.root, self.reporter)

        def assigned() -> Node | None:
            alone = replace(tree, value={} if child is None else {first: child})
            done = assign(alone, assignment.steps, assignment.value, self.schema, self.schema.root, self.reporter)
            assert isinstance(done.value, dict)
            return done.value.get(first)

        section = self._remember((id(child), id(assignment)), assigned, child, assignment)
        rest = {key: node for key, node in tree.value.items() if key != first or section is not None}
        return replace(tree, value=rest if section is None else {**rest, first: section})

    def _remember(self, key: tuple[int, int], make: Any, *kept: Any) -> Any:
        """What `make` gave for this key. `kept` are the things that the key names by id: while they are held
        here, no other thing gets their ids."""
        if key not in self._assigned:
            self._assigned[key] = (make(), *kept)
        return self._assigned[key][0]

    def _check_kept(self, point: Node, axes: Sequence[Axis]) -> None:
        """A value that another path has undone (`batch.tokens` removes `batch.examples`) varies nothing."""
        for axis in axes:
            node = _found(point, axis)
            if node is None and not any(assignment.value.value is None for assignment in axis.assignments):
                self._refuse(
                    "E311",
                    axis.key.key or axis.key.place,
                    f"`{axis.path}` is undone by another path of the matrix: every value gives the same run",
                    "vary one of them",
                    ("matrix", axis.path),
                )

    def _check_undone(self, variants: Mapping[str, Node], axes: Sequence[Axis]) -> None:
        """The matrix is laid over a variant: what both say, the variant says for nothing."""
        for name, overlay in variants.items():
            for axis in axes:
                if (node := _found(overlay, axis)) is not None:
                    self.reporter.warning_at(
                        "W317",
                        node.key or node.place,
                        f"`{axis.path}` of the variant {quoted(name)} counts nowhere: the matrix varies it",
                        "leave it out of the variant, or out of the matrix",
                        ("variants", name),
                    )

    def _check_names(self, points: Sequence[Point], tree: Node) -> None:
        """A run's name is its folder."""
        assert isinstance(tree.value, dict)
        seen: set[str] = set()
        variants = tree.value.get("variants")
        made: set[tuple[str | None, int | None]] = set()
        for point in points:
            # A seed that is there twice is told as such.
            if point.label in seen and (point.variant, point.seed) not in made:
                inside = variants.value if variants is not None else None
                named = inside.get(point.variant or "") if isinstance(inside, dict) else None
                node = named or tree.value.get("matrix") or tree
                self._refuse(
                    "E316",
                    node.key or node.place,
                    f"two runs are called {quoted(point.label)}",
                    "give the variant another name",
                    ("variants", point.variant or ""),
                )
            seen.add(point.label)
            made.add((point.variant, point.seed))

    # --- what is expected --------------------------------------------------------------------------

    def _check_expected(self, points: Sequence[Point], tree: Node) -> None:
        wide = [name for point in points for name in (point.variant, point.replicated) if name]
        known = dict.fromkeys([*EXPECTED, *wide, *(point.label for point in points if point.label)])
        told = set()
        for point in points:
            assert isinstance(point.tree.value, dict)
            node = point.tree.value.get("expect")
            if node is None or not isinstance(node.value, dict) or id(node) in told:
                continue
            told.add(id(node))
            for name, scores in node.value.items():
                if name not in known:
                    near = did_you_mean(name, known)
                    some = [*known][:12]
                    self._refuse(
                        "E314",
                        scores.key or scores.place,
                        f"{quoted(name)} in `expect` is no run of this spec",
                        f"did you mean {near}?" if near else f"known: {listed(some, 'and')}",
                        ("expect", name),
                    )

    def _with_expected(self, point: Point) -> Point:
        """The run with what is expected of its teacher and its student alone."""
        assert isinstance(point.tree.value, dict)
        node = point.tree.value.get("expect")
        if node is None or not isinstance(node.value, dict):
            return point
        found = [node.value[name] for name in ("student", *point.names) if name in node.value]
        teacher = node.value.get("teacher")
        key = (id(node), id(teacher), *map(id, found))
        if key not in self._expected:
            inside = {} if teacher is None else {"teacher": teacher}
            for scores in found:
                below = self.schema.root["properties"]["expect"]["additionalProperties"]
                inside["student"] = (
                    merge(inside["student"], scores, self.schema, below) if "student" in inside else scores
                )
            self._expected[key] = replace(node, value=inside)
        section = self._expected[key]
        rest = {name: child for name, child in point.tree.value.items() if name != "expect"}
        return replace(point, tree=replace(point.tree, value={**rest, "expect": section} if section.value else rest))

    def _too_many(self, count: int, tree: Node, key: str = "matrix") -> None:
        assert isinstance(tree.value, dict)
        node = tree.value.get(key) or tree.value.get("variants") or tree
        self._refuse(
            "E313",
            node.key or node.place,
            f"{count:,} runs, more than {MAX_RUNS:,}",
            "vary less at once, or write several specs that extend one",
            (key,),
        )

    def _refuse(self, code: str, place: Position, message: str, hint: str, path: Trail) -> None:
        self.reporter.error_at(code, place, message, hint, path)


# --- names ---------------------------------------------------------------------------------------


def _found(tree: Node, axis: Axis) -> Node | None:
    """What stands at the path of an axis."""
    node: Node | None = tree
    for step, _ in axis.assignments[0].steps:
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
    words = [_slug(value) for value in values]
    return tuple(
        f"{name}-{word}" if word and words.count(word) == 1 else f"{name}-{'-'.join(filter(None, [word, str(i)]))}"
        for i, word in enumerate(words, 1)
    )


def _slug(value: Any) -> str:
    """A value as a part of a name: letters, digits, `.`, `_` and `-`."""
    if isinstance(value, Mapping):
        inner = [_slug(item) for item in value.values()]
        text = "-".join(inner) if len(inner) == 1 else ""
    elif isinstance(value, list):
        text = "-".join(_slug(item) for item in value)
    elif isinstance(value, float):
        text = f"{value:g}"
    elif value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    else:
        text = str(value).rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:40]


def _label(words: Sequence[str]) -> str:
    label = "-".join(words)
    if len(label) <= MAX_LABEL:
        return label
    return f"{label[: MAX_LABEL - 9]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def _plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {key: _plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(child) for child in node.value]
    return node.value


def _overlap(one: str, other: str) -> bool:
    """Is one path the other, or a part of it?"""
    return one == other or any(a.startswith((f"{b}.", f"{b}[")) for a, b in ((one, other), (other, one)))


def _matches(exclusion: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    return all(path in values and _same(value, values[path]) for path, value in exclusion.items())


def _same(one: Any, other: Any) -> bool:
    """Equal, and a boolean is no number."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
