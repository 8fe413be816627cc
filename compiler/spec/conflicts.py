"""What is laid over a variant against what the variant says: a matrix and `--set` may vary a variant, not turn it into
another one. A baseline without a term has none in any of its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..diagnostics.diagnostic import Diagnostic, Position, Reporter, Trail, dotted, quoted
from ..diagnostics.record import record
from .axes import Axis, plain
from .merging import is_there, node_at, removals
from .overrides import Assignment
from .parse import Node
from .structure import Schema


class Undone(NamedTuple):
    """What a spec or a variant says at `path`, and something laid over it undid. `removal`: the null there took out
    what is back now; else the value there is gone."""

    path: Trail
    node: Node
    removal: bool

    @property
    def place(self) -> Position:
        return self.node.key or self.node.place


@record
class Conflicts:
    """`removed`: what nulls took out of the spec, by its path; `overlays`: its variants as they are written; `put`: a
    tree and an assignment -> the tree with it done."""

    schema: Schema
    reporter: Reporter
    overrides: Sequence[Assignment]
    removed: Mapping[Trail, Node]
    overlays: Mapping[str, Node]
    put: Callable[[Node, Assignment], Node]

    def of(self, name: str | None, variant: Node, axes: Sequence[Axis]) -> tuple[Diagnostic, ...]:
        """What is wrong with every run of a variant because of what is laid over it (E318). `variant`: its whole tree;
        `name` None: the spec has no variants. Reports W317 and W320, which are about the spec."""
        reporter = Reporter(self.reporter.places, file=self.reporter.file)
        self._check_inherited(name, variant)
        for axis in axes:
            for assignment in axis.assignments:
                after = self.put(variant, assignment)
                own = list(self._undone(name, variant, after))
                for one in own:
                    self._tell_varied(one, str(name), axis, reporter)
                for one in self._brought_back(variant, after, own):
                    deeper = len(assignment.steps) > len(one.path)
                    if deeper or self._is_later(one.node.place, axis.key.place):
                        self._tell_back(one, axis, reporter)
        for given in self.overrides:
            after = self.put(variant, given)
            own = [one for one in self._undone(name, variant, after) if one.removal]
            for one in own:
                self._tell_set(one, name, given, reporter)
            for one in self._brought_back(variant, after, own):
                if len(given.steps) > len(one.path):  # the whole of it may be set anew
                    self._tell_set(one, None, given, reporter)
        return tuple(reporter.diagnostics)

    # --- what is undone ------------------------------------------------------------------------------

    def _undone(self, name: str | None, variant: Node, after: Node) -> Iterator[Undone]:
        """What the variant says for nothing in `after`, its tree with something laid over it."""
        overlay = self.overlays[name] if name is not None else None
        if overlay is None:
            return
        for path, node in removals(overlay, self.schema, self.schema.root):
            if not is_there(variant, path) and is_there(after, path):
                yield Undone(path, node, removal=True)
        for path, node in _values(overlay):
            kept, now = node_at(variant, path), node_at(after, path)
            if kept is not None and kept.place == node.place and (now is None or now.place != node.place):
                yield Undone(path, node, removal=False)

    def _brought_back(self, variant: Node, after: Node, own: Sequence[Undone]) -> Iterator[Undone]:
        """What was removed before the variants were laid over the spec, and is in `after` and not in `variant`; but not
        what the variant removes itself."""
        known = {one.path for one in own}
        for path, node in self.removed.items():
            if path not in known and not is_there(variant, path) and is_there(after, path):
                yield Undone(path, node, removal=True)

    def _is_later(self, place: Position, other: Position) -> bool:
        """Was the one written in a file that extends the other's?"""
        return place.file in self.reporter.places.chains.get(other.file, ())

    # --- messages ------------------------------------------------------------------------------------

    def _check_inherited(self, name: str | None, variant: Node) -> None:
        """A variant of a file that is extended brings back what the file that extends it removed."""
        for path, null in self.removed.items() if name is not None else ():
            there = node_at(variant, path)
            if there is not None and there.value is not None and self._is_later(null.place, there.place):
                self.reporter.warning_at(
                    "W320",
                    null.key or null.place,
                    f"`{dotted(path)}` is removed here, but the variant {quoted(name)} sets it "
                    f"({_at(there.key or there.place)})",
                    f"to remove it there too: `variants: {{{name}: {_nested(path, None)}}}`",
                    path,
                )

    def _tell_varied(self, one: Undone, name: str, axis: Axis, reporter: Reporter) -> None:
        path, varied = dotted(one.path), f"`{axis.path}` of the matrix ({_at(axis.key.key or axis.key.place)})"
        where: Trail = ("variants", name, *one.path)
        leave_out = f"add `matrix: {{{axis.path}: null}}` to the variant {quoted(name)}, which is then not varied there"
        if one.removal:
            message = f"{varied} brings back `{path}`, which the variant {quoted(name)} removes"
            reporter.error_at("E318", one.place, message, f"{leave_out}; or remove this null", where)
        elif _same_value(one.path, axis.assignments[0].names):
            what = "it" if path == axis.path else f"`{axis.path}`"
            message = f"`{path}` of the variant {quoted(name)} is overridden by the matrix, which varies {what}"
            self.reporter.warning_at(
                "W317", one.place, message, f"remove it from the variant; or {leave_out}", ("variants", name)
            )
        else:
            message = f"{varied} replaces `{path}` of the variant {quoted(name)}"
            hint = f"{leave_out}; or remove `{path}` from the variant"
            reporter.error_at("E318", one.place, message, hint, where)

    def _tell_back(self, one: Undone, axis: Axis, reporter: Reporter) -> None:
        place = axis.key.key or axis.key.place
        message = f"`{axis.path}` of the matrix ({_at(place)}) brings back `{dotted(one.path)}`, which is removed here"
        hint = "remove this null, or remove the path from the matrix"
        if self._is_later(one.node.place, place):
            hint = f"remove the path from the matrix, too: `matrix: {{{axis.path}: null}}`; or remove this null"
        reporter.error_at("E318", one.place, message, hint, one.path)

    def _tell_set(self, one: Undone, name: str | None, given: Assignment, reporter: Reporter) -> None:
        path, gone = dotted(given.names), dotted(one.path)
        others = [other for other in self.overlays if other != name]
        who = "the spec" if name is None else f"the variant {quoted(name)}"
        what = f"`{path}` is in `{gone}`, which" if path != gone else f"`{path}` is what"
        if name is None:
            whole = _nested(given.names[len(one.path) :], given.value)
            hint = f"to set it anyway, set the whole mapping: `--set '{gone}={whole}'`"
        else:
            where = f"in the variants that have it: `--set 'variants.{others[0]}" if others else None
            where = where or f"in the variant itself, if that is meant: `--set 'variants.{name}"
            hint = f"set it {where}.{path}={_nested((), given.value)}'`"
        message = f"{what} {who} removes ({_at(one.place)})"
        reporter.error_at("E318", given.steps[0][1], message, hint, one.path)


def _values(node: Node, path: Trail = ()) -> Iterator[tuple[Trail, Node]]:
    """The single values and the lists of an overlay."""
    items = node.value
    if isinstance(items, dict):
        for key, child in items.items():
            yield from _values(child, (*path, key))
    elif isinstance(items, list) and len(items) == 1 and items[0].implied:
        yield from _values(items[0], (*path, 0))
    elif path:
        yield path, node


def _same_value(one: Trail, other: Trail) -> bool:
    """Is one path the other, or a part of it? The index of a list with one item need not be written."""
    names = [[step for step in path if isinstance(step, str)] for path in (one, other)]
    return all(a == b for a, b in zip(*names, strict=False))


def _at(place: Position) -> str:
    return f"{place.file}:{place.line}:{place.column}"


def _nested(path: Trail, value: Node | None) -> str:
    """`{a: {b: value}}` of a path `a.b`, as it may be typed. What writes YAML is imported when something is wrong."""
    from .yaml_text import flow

    typed: Any = None if value is None else plain(value)
    for step in reversed(path):
        typed = {step: typed} if isinstance(step, str) else typed
    return flow(typed)
