"""File locations of a spec, absolute: `${paths.NAME}` put in, the rest relative to the file that wrote it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path

from ..diagnostics.diagnostic import Reporter, Trail, did_you_mean, listed, quoted, shown_path
from ..diagnostics.record import record
from ..extensions.schema_files import Fragment
from .parse import Node
from .structure import Schema

VARIABLE = re.compile(r"\$\{([^}]*)\}?")


@record
class Locator:
    """`paths`: the site's folders by name; `folders`: the folder of each file, by the name it goes by in
    messages. `refused` collects the paths of values that were refused, `typed` the locations as they were typed."""

    schema: Schema
    paths: Mapping[str, Path]
    folders: Mapping[str, Path]
    reporter: Reporter
    refused: set[Trail] = field(default_factory=set)
    typed: dict[Trail, str] = field(default_factory=dict)

    def locate(self, node: Node, fragment: Fragment | None, path: Trail = (), spelled: Trail = ()) -> Node:
        """The node with its locations absolute. `spelled`: its path as it was written, without short forms
        spelled out."""
        chosen = self.schema.choose_for(fragment, node.value) if fragment is not None else None

        def visit(child: Node, step: str | int) -> Node:
            below = self.schema.child(chosen, step) if chosen is not None else None
            return self.locate(child, below, (*path, step), spelled if child.implied else (*spelled, step))

        if isinstance(node.value, dict):
            return replace(node, value={key: visit(child, key) for key, child in node.value.items()})
        if isinstance(node.value, list):
            return replace(node, value=[visit(child, i) for i, child in enumerate(node.value)])
        if not isinstance(node.value, str) or chosen is None:
            return node
        text = None
        if "x-location" in chosen:
            self.typed[path] = node.value
            text = self._substituted(node, spelled)
        elif "${" in node.value:
            message = "`${...}` may stand only where a file or folder is named"
            self._refuse("E304", node, spelled, message, "write the value itself")
        else:
            return node
        if text is None:
            self.refused.add(path)
        return replace(node, value=str(Path(self.folders[node.place.file], text))) if text else node

    def _substituted(self, node: Node, spelled: Trail) -> str | None:
        """The location with its variables put in; None: it was refused."""
        text = str(node.value)
        for found in VARIABLE.finditer(text):
            inside = found.group(1)
            if not inside.startswith("paths.") or not found.group().endswith("}"):
                message, hint = f"{quoted(found.group())} is not known", "only ${paths.NAME} is substituted"
                self._refuse("E303", node, spelled, message, hint)
                return None
            if inside.removeprefix("paths.") not in self.paths:
                self._unknown(inside.removeprefix("paths."), node, spelled)
                return None
        text = VARIABLE.sub(lambda found: str(self.paths[found.group(1).removeprefix("paths.")]), text)
        if not possible_path(text):
            message = f"{quoted(text)} is not a possible path"
            self._refuse("E308", node, spelled, message, "shorten the names in it")
            return None
        return text

    def _unknown(self, name: str, node: Node, spelled: Trail) -> None:
        near = did_you_mean(name, self.paths)
        known = f"known: {listed(sorted(self.paths), 'and')}" if self.paths else "none is known"
        shown = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else "NAME"
        hint = f"define it: --path {shown}=FOLDER, or `paths: {{{shown}: FOLDER}}` in the site file"
        if near:
            hint = f"did you mean ${{paths.{near}}}? or {hint}"
        self._refuse("E303", node, spelled, f"the path {quoted(name)} is not known ({known})", hint)

    def _refuse(self, code: str, node: Node, spelled: Trail, message: str, hint: str) -> None:
        self.reporter.error_at(code, node.place, message, hint, spelled)


def shown_location(location: Path, path: Trail, reporter: Reporter) -> str:
    """A file or folder of a spec as messages name it: whole, if it was typed whole."""
    return str(location) if _is_whole(path, reporter) else shown_path(location)


def missing_hint(location: str, path: Trail, reporter: Reporter) -> str:
    """What to do about a location where nothing is."""
    if hint := location_hint(location):
        return hint
    return "" if _is_whole(path, reporter) else "paths are relative to the spec that names them"


def _is_whole(path: Trail, reporter: Reporter) -> bool:
    return Path(reporter.places.locations.get(path, "")).is_absolute()


def location_hint(text: str) -> str:
    """What to type instead of a location that a shell would understand and a spec does not; "" for others."""
    if variable := re.search(r"\$\w+", text):
        return (
            f"{variable.group()} is not substituted, only `${{paths.NAME}}` is: write the whole path, or "
            '"${paths.NAME}/..." with --path NAME=FOLDER'
        )
    if "~" in text.split("/"):
        return '`~` is not expanded in a spec: write the whole path, or "${paths.NAME}/..." with --path NAME=FOLDER'
    if "/" in text and re.search(r"[*?]|\[.*\]", text):
        return "`*` and `?` are not expanded in a spec: list the files, as in `files: [a.jsonl, b.jsonl]`"
    return ""


def possible_path(text: str) -> bool:
    """Can there be a file of this name at all?"""
    try:
        names = os.fsencode(text).split(b"/")
    except UnicodeEncodeError:
        return False
    return "\0" not in text and len(text) < 4000 and all(len(name) <= 255 for name in names)
