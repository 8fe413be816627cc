"""Terms, metrics, families, stage kinds and ways to train of installed packages, known without importing any of them.

A package registers names as entry points of the groups below, `name = module:object`, and ships beside each
module a `<module>.schema.json` that says what the compiler has to know (`schema/extension.schema.json`). Both
are data: nothing of a package is imported here, because it may import torch. A package that cannot be used is
no error until a spec uses it. Our own names are never another's.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..diagnostics.diagnostic import listed
from .built_in import built_in, fits
from .builtin_families import OURS
from .schema_files import misfits, read_schema

if TYPE_CHECKING:
    from importlib.metadata import Distribution

Kind = Literal["terms", "metrics", "families", "stages", "methods"]
KINDS: tuple[Kind, ...] = ("terms", "metrics", "families", "stages", "methods")
WORDS: Mapping[str, str] = {
    "terms": "term", "metrics": "metric", "families": "family", "stages": "stage", "methods": "method"
}  # fmt: skip
OWN = "distilc"
MAX_BYTES = 1 << 20
NAMES = r"[a-z][a-z0-9]*([_-][a-z0-9]+)*"
RESERVED = ("total",)  # `loss/total` is logged
_OF_PACKAGE = re.compile(r"(?P<name>.+?)(-\d[^-]*(-[^-]+)*)?\.(dist-info|egg-info)", re.IGNORECASE)


class Problem(NamedTuple):
    """Why a registered name cannot be used."""

    code: str
    message: str
    hint: str


class Extension(NamedTuple):
    """One registered name. `facts`: its part of the schema fragment; `problem` None: it can be used."""

    kind: Kind
    name: str
    distribution: str
    version: str
    module: str
    facts: Mapping[str, Any] = MappingProxyType({})
    problem: Problem | None = None

    @property
    def package(self) -> str:
        """`distilc-focal 0.1.0`."""
        return f"{self.distribution} {self.version}".rstrip()

    @property
    def words(self) -> str:
        """`the term focal of distilc-focal 0.1.0`."""
        return f"the {WORDS[self.kind]} {self.name} of {self.package}"


class Installed(NamedTuple):
    """What is registered: kind -> name -> extension. `shadowing`: those that are called as one of ours is,
    which are never used."""

    names: Mapping[Kind, Mapping[str, Extension]]
    shadowing: Mapping[Kind, Mapping[str, Extension]]

    def usable(self, kind: Kind) -> dict[str, Extension]:
        """Those of a kind that can be used."""
        return {name: extension for name, extension in self.names[kind].items() if extension.problem is None}

    def problem(self, kind: Kind, name: str) -> Problem | None:
        """Why a name of a kind cannot be used; None: it can, or nobody registers it."""
        extension = self.names[kind].get(name)
        return None if extension is None else extension.problem

    def facts(self, kind: Kind, name: str) -> Mapping[str, Any]:
        """What is known of a name that can be used; {}: it cannot, or nobody registers it."""
        extension = self.names[kind].get(name)
        return {} if extension is None else extension.facts

    def __bool__(self) -> bool:
        return any(self.names.values()) or any(self.shadowing.values())


@cache
def installed() -> Installed:
    """Everything that installed packages register. Looked up once in a process."""
    if not _may_be_any():
        return Installed({kind: {} for kind in KINDS}, {kind: {} for kind in KINDS})
    ours = _our_names()
    claims: dict[Kind, dict[str, list[Extension]]] = {kind: {} for kind in KINDS}
    for extension in sorted(_registered(), key=lambda extension: (extension.name, extension.package)):
        claims[extension.kind].setdefault(extension.name, []).append(extension)
    names: dict[Kind, dict[str, Extension]] = {kind: {} for kind in KINDS}
    shadowing: dict[Kind, dict[str, Extension]] = {kind: {} for kind in KINDS}
    for kind in KINDS:
        for name, found in claims[kind].items():
            (shadowing if name in ours[kind] else names)[kind][name] = found[0] if len(found) == 1 else _several(found)
    return Installed(names, shadowing)


def usable_metrics(task: str) -> tuple[str, ...]:
    """The metrics of installed packages that fit a task."""
    return tuple(name for name, metric in installed().usable("metrics").items() if fits(metric.facts, task))


# --- what is registered ----------------------------------------------------------------------------


def _may_be_any() -> bool:
    """Does any package on the path register something? A look into the metadata folders themselves:
    importlib.metadata takes longer to import than all of this."""
    for place in dict.fromkeys(sys.path):
        try:
            items = list(os.scandir(place or "."))
        except NotADirectoryError:
            return True  # an archive: importlib.metadata knows how to look into it
        except OSError:
            continue
        for item in items:
            named = _OF_PACKAGE.fullmatch(item.name)
            if named is None or named["name"] == OWN:
                continue
            try:
                with open(f"{item.path}/entry_points.txt", "rb") as file:
                    if b"distilc." in file.read():
                        return True
            except OSError:
                continue
    return False


def _registered() -> Iterator[Extension]:
    """Every entry of our groups in other packages, in the order of the path; of a package that is there twice
    the first counts, as it does for import."""
    fragments: dict[str, Any] = {}
    for name, distribution in distributions().items():
        if name == OWN:
            continue
        try:
            points = list(distribution.entry_points)
            version = distribution.version or ""
        except Exception:  # metadata of somebody else's that cannot be read
            continue
        for point in points:
            for kind in KINDS:
                if point.group == f"{OWN}.{kind}":
                    yield _examined(Extension(kind, point.name, name, version, ""), point.value, fragments)


def _examined(entry: Extension, value: str, fragments: dict[str, Any]) -> Extension:
    """An entry with its facts, or with what is wrong with it."""

    def unusable(code: str, message: str) -> Extension:
        package = entry.distribution
        hint = f"the author of {package} has to correct this; to do without: pip uninstall {package}"
        return entry._replace(problem=Problem(code, f"{entry.words} {message}", hint))

    if not re.fullmatch(NAMES, entry.name) or (entry.kind == "terms" and entry.name in RESERVED):
        rule = "a name has small letters, digits, `_` and `-`, and is not `total`"
        return unusable("E554", f"has an invalid name: {rule}")
    target = re.fullmatch(r"\s*([\w.]+)\s*:\s*([\w.]+)\s*(\[.*\])?\s*", value)
    origin = None if target is None else module_file(target[1])
    if target is None or origin is None:
        what = f"is registered as {value!r}, which is not `module:object`" if target is None else (
            f"is registered in the module {target[1]}, which is not installed")  # fmt: skip
        return unusable("E552", what)
    entry = entry._replace(module=target[1])
    file = fragment_file(origin, target[1])
    if target[1] not in fragments:
        fragments[target[1]] = _read_fragment(file)
    fragment = fragments[target[1]]
    reason = fragment if isinstance(fragment, str) else _misfit(fragment, entry)
    if reason:
        return unusable("E553", f"cannot be used: {file.parent.name}/{file.name} {reason}")
    return entry._replace(facts=fragment[entry.kind][entry.name])


def _several(found: Sequence[Extension]) -> Extension:
    first = found[0]
    packages = listed((extension.package for extension in found), "and")
    message = f"the {WORDS[first.kind]} {first.name} is registered by {packages}, so none of them is used"
    hint = f"uninstall what is not needed: pip uninstall {listed(extension.distribution for extension in found)}"
    return first._replace(facts={}, problem=Problem("E551", message, hint))


def module_file(module: str) -> Path | None:
    """The file of a module as import would find it, without importing the packages above it; None: no such."""
    from importlib.machinery import PathFinder
    from importlib.util import find_spec

    top, *below = module.split(".")
    try:
        spec = find_spec(top)  # of a name at the top: nothing is imported for it
        for i in range(len(below)):
            if spec is None or spec.submodule_search_locations is None:
                return None
            name = ".".join([top, *below[: i + 1]])
            spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    except Exception:  # whatever finders are installed
        return None
    return None if spec is None or not spec.has_location or spec.origin is None else Path(spec.origin).resolve()


def fragment_file(origin: Path, module: str) -> Path:
    """The schema fragment of a module: beside its file, `<module>.schema.json`."""
    return origin.with_name(f"{module.rpartition('.')[2]}.schema.json")


def _read_fragment(file: Path) -> Any:
    """The fragment, or what is wrong with the file, in words."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no number of JSON")

    try:
        if file.stat().st_size > MAX_BYTES:
            return "has more than 1 MiB"
        return json.loads(file.read_text("utf-8"), parse_constant=refuse)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except (ValueError, RecursionError) as error:
        return f"is not JSON: {error}"


def _misfit(fragment: Any, entry: Extension) -> str:
    """In what a fragment is no description of an entry, in words; "" if it is."""
    try:
        facts = fragment[entry.kind][entry.name]
    except (TypeError, KeyError, IndexError):
        return f"does not describe `{entry.kind}.{entry.name}`"
    schema = read_schema("extension")
    for misfit in misfits(facts, schema["$defs"][WORDS[entry.kind]], schema):
        where = ".".join(map(str, (entry.kind, entry.name, *misfit.path)))
        return f"is wrong at `{where}`: {misfit.words}"
    for name, setting in facts.get("properties", {}).items():
        for value in (setting["default"],) if "default" in setting else ():
            for misfit in misfits(value, setting, setting):
                return f"is wrong at `{entry.kind}.{entry.name}.properties.{name}.default`: {misfit.words}"
    return ""


@cache
def _our_names() -> Mapping[Kind, frozenset[str]]:
    root = read_schema("experiment")
    return {
        "terms": frozenset(built_in("terms")),
        "metrics": frozenset({*root["$defs"]["expectation"]["properties"], *built_in("metrics")}),
        "families": frozenset(OURS),
        "stages": frozenset(built_in("stages")),
        "methods": frozenset(built_in("methods")),
    }


@cache
def distributions() -> dict[str, Distribution]:
    """Name -> distribution, the first of its name on the path. Only those that may register something: reading
    the metadata of all takes a tenth of a second."""
    from importlib import metadata

    found: dict[str, Distribution] = {}
    for distribution in metadata.distributions():
        try:
            if "distilc." not in (distribution.read_text("entry_points.txt") or ""):
                continue
            name = distribution.name
        except Exception:  # metadata of somebody else's that cannot be read
            continue
        if name:
            found.setdefault(name, distribution)
    return found
