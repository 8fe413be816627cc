"""The top-level sections of a spec, each looked at once: cleaned, located, held to the schema, completed.

A spec with a thousand runs has few different sections: what a matrix does not vary is the same `Node` in all
of its runs. What is found out about a section is therefore kept by node.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..diagnostics.diagnostic import Diagnostic, Places, Reporter, Trail
from ..diagnostics.record import record
from .merging import clean
from .normalise import Known
from .parse import Files, Node, flatten
from .paths import Locator
from .structure import Schema, with_defaults
from .validate import mend, stand_in, validate


@record
class Section:
    """`resolved` is the section's value with its defaults, None when nothing of it could be kept; `refused`
    are the paths in it that were refused or are missing."""

    resolved: Any
    places: Places
    diagnostics: tuple[Diagnostic, ...]
    refused: frozenset[Trail]
    node: Node


class Sections:
    """`paths`: the site's folders; `file`: the spec, for what has no place of its own."""

    def __init__(self, schema: Schema, paths: Mapping[str, Path], files: Files, file: Path) -> None:
        self.schema = schema
        self.paths = paths
        self.files = files
        self.file = file
        self._known: dict[tuple[str, int], Section] = {}
        self._schemas: dict[str, Schema] = {}
        self._defaults: dict[str, Any] = {}
        self.known: Known = {}

    def section(self, key: str, node: Node) -> Section:
        """What there is to say about the section `key`."""
        found = self._known.get((key, id(node)))
        if found is None:
            # The section holds its node, so that no other node gets the same id.
            found = self._known[key, id(node)] = self._looked_at(key, node)
        return found

    def root(self, tree: Node) -> Section:
        """The top level itself: keys that are not known and keys that are missing. `resolved` has the values
        of what is missing: the schema's defaults and, for what must be there, stand-ins."""
        assert isinstance(tree.value, dict)
        places = Places(chains=self.files.chains)
        for key, node in [(None, tree), *tree.value.items()]:
            path = () if key is None else (key,)
            places.values[path] = node.place
            if node.key is not None:
                places.keys[path] = node.key
        reporter = Reporter(places, unreliable=self.files.refused, file=self.file)
        refused: set[Trail] = set()
        known, required = self.schema.root["properties"], self.schema.required(self.schema.root)
        if not (tree.value.keys() <= known.keys() and all(key in tree.value for key in required)):
            refused = validate(
                {key: None if isinstance(node.value, dict | list) else node.value for key, node in tree.value.items()},
                self.schema,
                reporter,
                complete=self.files.complete,
                fragment=self._shallow(),
            )
        missing = {key: value for key in known if key not in tree.value and (value := self.default(key)) is not None}
        return Section(missing, places, tuple(reporter.diagnostics), frozenset(refused), tree)

    def default(self, key: str) -> Any:
        """What stands for a section that is not there: its default or, where it must be there, an example;
        None where nothing does."""
        if key not in self._defaults:
            fragment = self.schema.root["properties"][key]
            whole = self.schema.resolve(fragment)
            value = None
            if key in self.schema.required(self.schema.root):
                value = with_defaults(self.schema, fragment, stand_in(self.schema, fragment))
            elif "default" in whole:
                value = with_defaults(self.schema, fragment, whole["default"])
            self._defaults[key] = value
        return self._defaults[key]

    def _looked_at(self, key: str, node: Node) -> Section:
        fragment = self.schema.root["properties"][key]
        frame = key in FRAME
        reporter = Reporter(Places(chains=self.files.chains), file=self.file)
        refused: set[Trail] = set()
        node_here = node if frame else clean(node, self.schema, fragment)
        places = Places(chains=self.files.chains)
        if not frame:
            locator = Locator(self.schema, self.paths, self.files.folders, reporter)
            node_here = locator.locate(node_here, fragment, (key,), (key,))
            refused |= locator.refused
            places.locations.update(locator.typed)
        plain = flatten(Node({key: node_here}, node.place), places)
        del places.values[()]
        checker = Reporter(places, unreliable=refused, file=self.file)
        checker.take(reporter.diagnostics)
        below = self._of(key)
        refused |= validate(plain, self.schema, checker, complete=self.files.complete, fragment=below.root)
        kept: Any = mend(copy.deepcopy(plain), below, refused) if refused else plain
        resolved = None
        if kept is not None and key in kept:
            resolved = with_defaults(self.schema, fragment, kept[key])
        return Section(resolved, places, tuple(checker.diagnostics), frozenset(refused), node)

    def _of(self, key: str) -> Schema:
        """The schema of a spec that has this section alone."""
        if key not in self._schemas:
            root = {name: value for name, value in self.schema.root.items() if name not in ("if", "then")}
            self._schemas[key] = Schema({**root, "properties": {key: self.schema.root["properties"][key]}})
        return self._schemas[key]

    def _shallow(self) -> Mapping[str, Any]:
        """The top level of the schema, which takes anything below."""
        root = self.schema.root
        open_ = {key: {"examples": [self.schema.example(below)]} for key, below in root["properties"].items()}
        return {**root, "properties": open_}


FRAME = ("variants", "matrix")  # they wait: what is in them is looked at in the runs that they make


def whole_tree(root: Section, parts: Mapping[str, Section], sections: Sections) -> tuple[dict[str, Any], Places]:
    """The resolved tree of a run and where everything in it was written. A section of which nothing could be
    kept is left to its default or stand-in."""
    tree = dict(root.resolved)
    places = Places(dict(root.places.keys), dict(root.places.values), {}, {}, root.places.chains)
    for key, part in parts.items():
        places.keys.update(part.places.keys)
        places.values.update(part.places.values)
        places.texts.update(part.places.texts)
        places.locations.update(part.places.locations)
        places.spelled.update(part.places.spelled)
        value = sections.default(key) if part.resolved is None else part.resolved
        if value is not None:
            tree[key] = value
    return tree, places
