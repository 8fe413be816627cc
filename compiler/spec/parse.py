"""Text -> tree with positions. YAML 1.2, strictly, and nothing in it can run.

In: the bytes of a file. Out: a `Node` tree in which every key and value knows where it was written, or
None and diagnostics (E1xx). `flatten` turns a tree into plain Python values and `Places`.

Scalars follow the core schema of YAML 1.2: `no` and `on` are text, `010` is ten, `3e-4` is a number.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..diagnostics.diagnostic import CompileError, Places, Position, Reporter, Trail, did_you_mean, quoted
from ..diagnostics.record import record
from ..diagnostics.regular_file import open_regular

MAX_BYTES = 1 << 20
MAX_NODES = 20_000
MAX_DEPTH = 50
MAX_INTEGER = 2**63 - 1

Scalar = str | int | float | bool | None


@dataclass(slots=True)
class Node:
    """A value and where it stands. `key`: where its key stands. `text`: a plain scalar as typed.
    `implied`: a short form was spelled out here, nobody wrote the step to this value."""

    value: dict[str, Node] | list[Node] | Scalar
    place: Position
    key: Position | None = None
    text: str | None = None
    implied: bool = False


@record
class Anchor:
    """An anchored value, with its size and height once its own aliases are written out."""

    node: Node
    size: int
    height: int


@record
class Source:
    """A file that was read: the name it goes by in messages, its text and its tree."""

    name: str
    path: Path
    text: str
    tree: Node


@dataclass(slots=True)
class Files:
    """What was read: texts by the name they go by in messages, the folder of each, and who extends whom.
    `complete` is False when a file to extend could not be read; `refused`: values that were refused."""

    texts: dict[str, str] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    complete: bool = True
    refused: set[Trail] = field(default_factory=set)


SPEC_START = "start with `version: 1`; `distilc init spec.yaml` writes a whole spec to begin with"


def read_source(
    path: Path,
    name: str,
    reporter: Reporter,
    texts: dict[str, str],
    *,
    start: str = SPEC_START,
    named_by: str = "",
    may_be_empty: bool = False,
) -> Source | None:
    """Read and parse a file; `texts` takes its text under `name`, for printing diagnostics. `start`: what such a
    file begins with, in words; `named_by`: the environment variable that names the file, if one does."""
    try:
        with open_regular(path) as stream:
            content = stream.read(MAX_BYTES + 1)
            size = os.fstat(stream.fileno()).st_size
        if len(content) > MAX_BYTES:
            reporter.error_at(
                "E102",
                Position(name, 1, 1),
                f"the file has {size:,} bytes, more than {MAX_BYTES:,}",
                "a spec is short; put data into files that it names",
            )
            return None
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror
        near = near_file(path) if isinstance(error, FileNotFoundError) else None
        hint = f"did you mean {near}?" if near is not None else f"set or unset {named_by}" if named_by else ""
        what = f"{name}, which {named_by} names" if named_by else name
        reporter.error_at("E101", Position(name, 1, 1), f"cannot read {what}: {reason}", hint)
        return None
    text = decode(content, name, reporter)
    if text is None:
        return None
    texts[name] = text
    tree = parse(text, name, reporter, start=start, may_be_empty=may_be_empty)
    return None if tree is None else Source(name, path, text, tree)


def decode(content: bytes, name: str, reporter: Reporter) -> str | None:
    """UTF-8 without control characters, line ends as `\\n`; else None and a diagnosis."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = (
            before.count(b"\n") + 1,
            len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1,
        )
        reporter.error_at(
            "E103",
            Position(name, line, column),
            f"not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start} (line {line})",
            "save the file as UTF-8",
        )
        return None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    bad = CONTROL.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        column = bad.start() - (text.rfind("\n", 0, bad.start()) + 1) + 1
        reporter.error_at(
            "E104",
            Position(name, line, column),
            f"the character U+{ord(bad.group()):04X} is not allowed in a spec",
            'delete it; inside double quotes it can be written as an escape, such as "\\x00"',
        )
        return None
    return text


# C0 without tab and line feed, DEL, C1, Unicode line ends (they would shift line numbers), non-characters.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


SURROGATE = re.compile("[\ud800-\udfff]")
HALF = re.compile("[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]")


def parse(
    text: str, name: str, reporter: Reporter, *, start: str = SPEC_START, may_be_empty: bool = False
) -> Node | None:
    """The tree of a document whose top level is a mapping. `start`: what such a file begins with, in words."""
    tree = parse_value(text, name, reporter)
    if tree is not None and tree.value is None and may_be_empty:
        return replace(tree, value={})
    if tree is not None and not isinstance(tree.value, dict):
        found = "is empty" if tree.value is None else f"is {_kind(tree)}"
        reporter.error_at(
            "E111",
            tree.place,
            f"the top level must be a mapping of keys to values, it {found}",
            start,
        )
        return None
    return tree


def parse_value(text: str, name: str, reporter: Reporter) -> Node | None:
    """The tree of one YAML document, whatever its top level is (also the value of a `--set`)."""
    try:
        return Composer(text, name, reporter).compose()
    except CompileError:
        return None


class Composer:
    """Builds the tree from ruamel.yaml's events. Mistakes that leave the rest readable (a key given
    twice, a tag, a number out of range) are collected; the others end it."""

    def __init__(self, text: str, name: str, reporter: Reporter) -> None:
        self.text = text
        self.name = name
        self.reporter = reporter
        self.anchors: dict[str, Anchor | None] = {}
        self.nodes = 0
        self.deepest = 0

    def compose(self) -> Node:
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        try:
            events = self._events()
            next(events)  # the start of the stream
            event = next(events)
            if type(event).__name__ == "StreamEndEvent":
                return Node(None, Position(self.name, 1, 1))
            if getattr(event, "version", None) not in (None, (1, 2)):
                self.stop(
                    "E116",
                    event,
                    "this file asks for a version of YAML other than 1.2",
                    "delete the line `%YAML ...`",
                )
            tree = self._node(next(events), events, 1)
            next(events)  # the end of the document
            event = next(events)
            if type(event).__name__ != "StreamEndEvent":
                self.stop(
                    "E110",
                    event,
                    "a second document starts here; a spec is one document",
                    "move it to a file of its own",
                )
            return tree
        except MarkedYAMLError as error:
            self._syntax(error)
        except (YAMLError, RecursionError, ValueError) as error:
            self.reporter.error_at("E105", Position(self.name, 1, 1), f"not valid YAML: {error}")
        raise CompileError

    def _events(self) -> Iterator[Any]:
        from ruamel.yaml import YAML

        yaml = YAML(typ="safe", pure=True)
        yield from yaml.parse(self.text)

    # --- nodes -------------------------------------------------------------------------------------

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        self.nodes += 1
        kind = type(event).__name__
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            if depth > MAX_DEPTH:
                what, hint = f"nested more than {MAX_DEPTH} deep", "check the brackets and the indentation"
            else:
                what = f"more than {MAX_NODES:,} values"
                hint = "write many runs as a `matrix` of few values, and put data into files that the spec names"
            self.stop("E114", event, f"{what}: no spec needs that", hint)
        if kind == "AliasEvent":
            return self._alias(event, depth)
        place = self.place(event)
        anchor, before, deepest = event.anchor, self.nodes, self.deepest
        if anchor is not None:
            self.anchors[anchor] = None  # open: an alias to it in here would be endless
        self.deepest = depth
        tag = str(event.tag) if event.tag is not None else None
        if tag is not None and tag not in ("!", *KNOWN_TAGS.get(kind, ())):
            self.reporter.error_at(
                "E108",
                place,
                f"the tag {quoted(tag.replace('tag:yaml.org,2002:', '!!'))} is not allowed",
                "write the plain value; put text that looks like something else into quotes",
            )
        if kind == "MappingStartEvent":
            node = Node(self._mapping(events, depth), place)
        elif kind == "SequenceStartEvent":
            items: list[Node] = []
            while type(event := next(events)).__name__ != "SequenceEndEvent":
                items.append(self._node(event, events, depth + 1))
            node = Node(items, place)
        elif event.implicit[0] and tag is None:
            node = Node(self._scalar(event.value, place), place, text=event.value)
        else:
            node = Node(self._text(event.value, place), place)
        if anchor is not None:
            self.anchors[anchor] = Anchor(node, self.nodes - before + 1, self.deepest - depth)
        self.deepest = max(self.deepest, deepest)
        return node

    def _mapping(self, events: Iterator[Any], depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while type(event := next(events)).__name__ != "MappingEndEvent":
            place = self.place(event)
            key = self._node(event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            name = key.value
            if name == "<<" and key.text is not None:
                self.reporter.error_at(
                    "E115",
                    place,
                    "YAML 1.2 has no merge key `<<`",
                    "write its keys out, or take in another file with `extends: base.yaml`",
                )
                if isinstance(value.value, dict):
                    # So that nothing seems to be missing. They stand where `<<` does: what does not fit here is
                    # dropped there with everything else that is said of what was refused.
                    meant = {key: replace(child, place=place, key=place) for key, child in value.value.items()}
                    entries = meant | entries
            elif not isinstance(name, str):
                shown = key.text if key.text is not None else _kind(key)
                hint = f'quote it: "{key.text}"' if key.text else "write `name: value`"
                self.reporter.error_at("E112", place, f"a key must be text, this one is {shown or 'empty'}", hint)
            elif name in entries:
                first = entries[name].key
                assert first is not None
                self.reporter.error_at(
                    "E107",
                    place,
                    f"duplicate key {quoted(name)}",
                    f"it is in line {first.line} already; keep one of the two",
                )
            else:
                # A copy: the value may be an alias, whose node belongs to another key as well. An empty
                # value has no place of its own (the parser gives that of whatever comes next).
                where = place if value.text == "" else value.place
                entries[name] = Node(value.value, where, place, value.text)
        return entries

    def _alias(self, event: Any, depth: int) -> Node:
        if event.anchor not in self.anchors:
            self.stop(
                "E109",
                event,
                f"there is no anchor `&{event.anchor}` above this alias",
                f"put `&{event.anchor}` before the value that is meant",
            )
        anchor = self.anchors[event.anchor]
        if anchor is None:
            self.stop(
                "E109",
                event,
                f"the alias `*{event.anchor}` is inside its own anchor",
                "write the value out",
            )
        assert anchor is not None
        self.nodes += anchor.size
        self.deepest = max(self.deepest, depth + anchor.height)
        if self.nodes > MAX_NODES or self.deepest > MAX_DEPTH:
            self.stop(
                "E109",
                event,
                "the aliases of this file expand to a tree that is too large",
                "write the values out",
            )
        return Node(anchor.node.value, self.place(event), text=anchor.node.text)

    def _scalar(self, text: str, place: Position) -> Scalar:
        """A plain scalar by the core schema of YAML 1.2."""
        if text in NULLS:
            return None
        if text in BOOLEANS:
            return BOOLEANS[text]
        number: int | float
        if INTEGER.fullmatch(text):
            digits = text.lstrip("+-")
            if len(digits) > 40:
                number = MAX_INTEGER + 1
            else:
                number = int(text, 0 if digits[:2] in ("0o", "0x") else 10)
            if abs(number) <= MAX_INTEGER:
                return number
            self._range(text, place, "does not fit into 64 bits", "write a smaller number")
            return text
        if FLOAT.fullmatch(text):
            number = float(text)
            if math.isfinite(number):
                return number
            self._range(text, place, "reads as infinity", "write a finite number")
            return text
        if INFINITE.fullmatch(text):
            self._range(text, place, "is not a number that a spec can use", "write a finite number; no limit is `null`")
        return text

    def _text(self, text: str, place: Position) -> str:
        """A text in quotation marks. Two escapes may make one character, as in JSON; half of one is none."""
        if not SURROGATE.search(text):
            return text
        if half := HALF.search(text):
            self.reporter.error_at(
                "E104",
                place,
                f"the escape \\u{ord(half.group()):04x} is half of a surrogate pair",
                "write the character itself, or delete it",
            )
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _range(self, text: str, place: Position, why: str, hint: str) -> None:
        text = text if len(text) <= 40 else f"{text[:36]}..."
        self.reporter.error_at(
            "E113", place, f"{text} {why}", f'{hint}; text, such as a revision, needs quotes: "{text}"'
        )

    # --- mistakes ----------------------------------------------------------------------------------

    def place(self, event: Any) -> Position:
        mark = event.start_mark
        return Position(self.name, mark.line + 1, mark.column + 1)

    def stop(self, code: str, event: Any, message: str, hint: str) -> None:
        self.reporter.error_at(code, self.place(event), message, hint)
        raise CompileError

    def _syntax(self, error: Any) -> None:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        lines = self.text.split("\n")
        if line >= len(lines) or (line and not lines[line].strip() and line == len(lines) - 1):
            line = max(i for i, content in enumerate([*lines, ""]) if content.strip() or i == 0)
            column = len(lines[line].rstrip())
        content = lines[line] if line < len(lines) else ""
        place = Position(self.name, line + 1, column + 1)
        indent = content[: len(content) - len(content.lstrip())]
        problem = str(error.problem or error)
        if "\t" in indent and "'\\t'" in problem:
            self.reporter.error_at(
                "E106",
                Position(self.name, line + 1, indent.index("\t") + 1),
                "a tab in the indentation",
                "YAML indents with spaces",
            )
            return
        message, hint = _plain_words(problem, content)
        here = content[column : column + 1]
        if here in ("]", "}") and ("<block end>" in problem or "<document start>" in problem):
            message, hint = "an unmatched closing bracket", f"remove this `{here}`, or open one before it"
        elif error.context_mark is not None and error.context_mark.line != line:
            what = str(error.context).removeprefix("while parsing ").removeprefix("while scanning ")
            message += f" (in {what} that starts in line {error.context_mark.line + 1})"
        self.reporter.error_at("E105", place, f"not valid YAML: {message}", hint)


NULLS = ("", "~", "null", "Null", "NULL")
BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
KNOWN_TAGS = {
    "ScalarEvent": ("tag:yaml.org,2002:str",),
    "MappingStartEvent": ("tag:yaml.org,2002:map",),
    "SequenceStartEvent": ("tag:yaml.org,2002:seq",),
}


def _plain_words(problem: str, line: str) -> tuple[str, str]:
    """ruamel.yaml's problem in the words of somebody who writes a spec, and what to do."""
    if "mapping values are not allowed" in problem:
        return "unexpected `:`", "check the indentation; put text that contains `: ` into quotes"
    if "<stream end>" in problem or "end of stream" in problem:
        return "the file ends inside a bracket or a quotation", "close it"
    if "${" in line and "but got" in problem:
        return "an unquoted `{` inside brackets", 'put the path into quotes: "${paths.NAME}/train.jsonl"'
    if "<block end>" in problem:
        return "inconsistent indentation", "indent it like the keys or items it belongs to"
    if found := re.search(r"found character '(.*)' that cannot start", problem):
        return f"a value cannot start with {quoted(found.group(1))}", "put it into quotes"
    if "could not find expected ':'" in problem:
        return "a key without `:`", "write `key: value`"
    if found := re.search(r"expected '(.)' or '(.)'", problem):
        return (
            f"expected {quoted(found.group(1))} or {quoted(found.group(2))} here",
            "check brackets and commas",
        )
    return problem, ""


def _kind(node: Node) -> str:
    if isinstance(node.value, dict):
        return "a mapping"
    return "a list" if isinstance(node.value, list) else f"the single value {quoted(node.value)}"


def near_file(path: Path) -> Path | None:
    """The file beside `path` that was probably meant."""
    try:
        beside = {entry.stem: entry for entry in path.parent.iterdir() if entry.suffix == path.suffix and entry != path}
    except OSError:
        return None
    return beside.get(did_you_mean(path.stem, beside, 0.75))


# --- flattening ----------------------------------------------------------------------------------


def flatten(tree: Node, places: Places) -> Any:
    """Plain Python values of a tree; fills `places`."""

    def visit(node: Node, path: Trail, spelled: Trail) -> Any:
        places.values[path] = node.place
        if node.key is not None:
            places.keys[path] = node.key
        if node.text is not None and not isinstance(node.value, str):
            places.texts[path] = node.text
        if spelled != path:
            places.spelled[path] = spelled

        def step(child: Node, name: str | int) -> Any:
            return visit(child, (*path, name), spelled if child.implied else (*spelled, name))

        if isinstance(node.value, dict):
            return {key: step(child, key) for key, child in node.value.items()}
        if isinstance(node.value, list):
            return [step(child, i) for i, child in enumerate(node.value)]
        return node.value

    return visit(tree, (), ())


def without(tree: Node, path: Trail) -> Node:
    """A copy of the tree without the value at `path`, which has at least one step and need not be there."""
    step, rest = path[0], path[1:]
    if isinstance(tree.value, dict) and step in tree.value:
        inside = {key: child for key, child in tree.value.items() if key != step or rest}
        if rest:
            inside[str(step)] = without(inside[str(step)], rest)
        return replace(tree, value=inside)
    if isinstance(tree.value, list) and isinstance(step, int) and step < len(tree.value):
        items = [child for i, child in enumerate(tree.value) if i != step or rest]
        if rest:
            items[step] = without(items[step], rest)
        return replace(tree, value=items)
    return tree
