"""One composed spec -> its runs: variants laid over it, the matrix multiplied out, one run a seed.

In: the tree of a spec in which `variants`, `matrix`, `seeds` and `expect` are well-formed. Out: one tree a
run, without the first two, with one seed, and with what is expected of this run alone. Sections that are the
same in several runs are the same `Node` in all of them, so that later stages look at each once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from itertools import product
from math import prod
from typing import Any

from ..diagnostics.diagnostic import Diagnostic, Position, Reporter, Trail, did_you_mean, listed, quoted
from ..diagnostics.record import record
from .axes import Axis, check_left_out, plain, read_axes, read_exclusions, same, slug, tell_set_and_varied
from .conflicts import Conflicts
from .experiment import EXPECTED
from .merging import merge, node_at
from .overrides import Assignment, assign
from .parse import Node
from .structure import Schema

MAX_RUNS = 10_000
MAX_LABEL = 120  # characters; a name becomes a folder


@record
class Point:
    """One run before it is typed. `label` is its name without the name of the spec ("" when it is the only
    one); `replicated` that name without the seed: what all replicates are called. `diagnostics`: what is wrong with
    how it was made, where that is about some of the runs."""

    tree: Node
    label: str
    variant: str | None
    seed: int | None
    replicated: str
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What `expect` may call it, the widest first."""
        return tuple(dict.fromkeys(name for name in (self.variant, self.replicated, self.label) if name))


@record
class Expansion:
    """`overrides` are laid over every run, last. `removed`: what nulls took out of the spec, by its path."""

    schema: Schema
    reporter: Reporter
    overrides: Sequence[Assignment] = ()
    removed: Mapping[Trail, Node] = field(default_factory=dict)
    _assigned: dict[tuple[int, int], tuple[Any, ...]] = field(default_factory=dict)
    _expected: dict[tuple[int, ...], Node] = field(default_factory=dict)

    def expand(self, tree: Node) -> list[Point]:
        """The runs of a spec, in the order variants, matrix, seeds as they are written.

        Reports E311 (a path of the matrix that cannot vary), E312 (an exclusion of nothing), E313 (too many
        runs, or none left), E314 (a name in `expect` that is nobody's), E315 (the command line sets what the
        matrix varies), E316 (two runs of one name), E318, W317 and W320 (something is laid over a variant that makes
        it another one, or says what it says for nothing).
        """
        assert isinstance(tree.value, dict)
        base = replace(tree, value={key: node for key, node in tree.value.items() if key != "variants"})
        named = tree.value.get("variants")
        overlays = {} if named is None else _children(named)
        whole: dict[str | None, Node] = {name: self._variant(base, overlay) for name, overlay in overlays.items()}
        whole = whole or {None: base}
        matrices = {name: _children(below).get("matrix") for name, below in whole.items()}
        read = {id(matrix): read_axes(matrix, self.overrides, self.reporter) for matrix in matrices.values()}
        axes = {name: read[id(matrix)] for name, matrix in matrices.items()}
        every = [axis for some in read.values() for axis in some]
        excluded = {name: read_exclusions(matrix, every, self.reporter) for name, matrix in matrices.items()}
        check_left_out(overlays, tree.value.get("matrix"), self.reporter)
        variants = {
            name: replace(below, value={key: node for key, node in _children(below).items() if key != "matrix"})
            for name, below in whole.items()
        }
        conflicts = Conflicts(self.schema, self.reporter, self.overrides, self.removed, overlays, self._put)
        told = {name: conflicts.of(name, below, axes[name]) for name, below in variants.items()}
        points = list(self._points(variants, axes, excluded, told, tree))
        self._check_names(points, tree)
        self._check_expected(points, tree)
        return [self._with_expected(point) for point in points]

    def _variant(self, base: Node, overlay: Node) -> Node:
        return replace(merge(base, overlay, self.schema, self.schema.root), place=base.place, key=base.key)

    # --- the runs ----------------------------------------------------------------------------------

    def _points(
        self,
        variants: Mapping[str | None, Node],
        axes: Mapping[str | None, Sequence[Axis]],
        excluded: Mapping[str | None, Sequence[Mapping[str, Any]]],
        told: Mapping[str | None, tuple[Diagnostic, ...]],
        tree: Node,
    ) -> Iterator[Point]:
        count = sum(prod(len(axis.assignments) for axis in axes[variant]) for variant in variants)
        if count > MAX_RUNS:
            self._too_many(count, tree)
            axes = {
                variant: [replace(axis, assignments=axis.assignments[:1], suffixes=axis.suffixes[:1]) for axis in some]
                for variant, some in axes.items()
            }
            variants = dict(list(variants.items())[:MAX_RUNS])
        made = 0
        for variant, below in variants.items():
            kept = False
            done: dict[Trail, dict[str, Any]] = {}  # what has an effect in a run -> the values of the first such run
            for choice in product(*(range(len(axis.assignments)) for axis in axes[variant])):
                chosen = list(zip(axes[variant], choice, strict=True))
                values = {axis.path: plain(axis.assignments[i].value) for axis, i in chosen}
                if any(_matches(exclusion, values) for exclusion in excluded[variant]):
                    continue
                point = below
                for axis, i in chosen:
                    point = self._put(point, axis.assignments[i])
                if not kept:
                    self._check_kept(point, chosen)
                kept = True
                seen = done.setdefault(self._effective(point, chosen), values)
                if idle := [axis for axis, _ in chosen if seen[axis.path] != values[axis.path]]:
                    self._tell_idle(idle[0], variant)
                for assignment in self.overrides:
                    point = self._put(point, assignment)
                words = [variant] if variant is not None else []
                words += [axis.suffixes[i] for axis, i in chosen]
                for made_here in self._seeds(point, words, variant):
                    made += 1
                    if made > MAX_RUNS:
                        self._too_many(made, tree, "seeds")
                        return
                    yield replace(made_here, diagnostics=told[variant])
        if not made and any(excluded.values()):
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
                _label([*words, f"seed{slug(plain(seed))}"]),
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

    def _check_kept(self, point: Node, chosen: Sequence[tuple[Axis, int]]) -> None:
        """A value that something else has undone (`batch.tokens` removes `batch.examples`) varies nothing. `point`:
        with the values of the matrix, without those of the command line."""
        after = point
        for given in self.overrides:
            after = self._put(after, given)
        for axis, i in chosen:
            value = axis.assignments[i].value
            if value.value is None:
                continue
            steps = axis.assignments[i].names
            found, at_last = node_at(point, steps), node_at(after, steps)
            if found is None or found.place != value.place:
                self._refuse(
                    "E311",
                    axis.key.key or axis.key.place,
                    f"`{axis.path}` is overridden by another path of the matrix: every value gives the same run",
                    "vary one of them",
                    ("matrix", axis.path),
                )
            elif at_last is None or at_last.place != value.place:
                tell_set_and_varied(self._undoing(point, steps, value), axis.path, self.reporter)

    def _effective(self, point: Node, chosen: Sequence[tuple[Axis, int]]) -> Trail:
        """What the matrix chose for a run, without the settings of terms of the loss whose weight is 0 there."""
        effective: list[str | int] = []
        for axis, i in chosen:
            section, *term = axis.assignments[i].names
            weight = node_at(point, ("loss", term[0], "weight")) if section == "loss" and term[1:] else None
            if weight is None or weight.value != 0 or term[1] == "weight":
                effective += [axis.path, i]
        return tuple(effective)

    def _tell_idle(self, axis: Axis, variant: str | None) -> None:
        """Two runs that differ in a setting of a term that is off are one run twice."""
        term = ".".join(map(str, axis.assignments[0].names[:2]))
        there = f"in the variant {quoted(variant)}" if variant is not None else "there"
        leave_out = f"`matrix: {{{axis.path}: null}}`"
        self._refuse(
            "E311",
            axis.key.key or axis.key.place,
            f"`{axis.path}` has no effect where the weight of `{term}` is 0: every value gives the same run {there}",
            f"add {leave_out} to the variant" if variant is not None else "exclude all but one of its values there",
            ("matrix", axis.path),
        )

    def _undoing(self, point: Node, steps: Trail, value: Node) -> Assignment:
        """The value of the command line that undoes one of the matrix."""
        for given in self.overrides:
            point = self._put(point, given)
            found = node_at(point, steps)
            if found is None or found.place != value.place:
                break
        return given

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
                    f"two runs have the name {quoted(point.label)}",
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
                        f"`expect` names an unknown run {quoted(name)}",
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


def _children(node: Node) -> Mapping[str, Node]:
    return node.value if isinstance(node.value, dict) else {}


def _label(words: Sequence[str]) -> str:
    label = "-".join(words)
    if len(label) <= MAX_LABEL:
        return label
    import hashlib

    return f"{label[: MAX_LABEL - 9]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def _matches(exclusion: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    return all(path in values and same(value, values[path]) for path, value in exclusion.items())
