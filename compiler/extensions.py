"""Terms, metrics and families of installed packages, known without importing any of them.

A package registers names as entry points of the groups below, `name = module:object`, and ships beside each
module a `<module>.schema.json` that says what the compiler has to know (`schema/extension.schema.json`). Both
are data: nothing of a package is imported here, because it may import torch. A package that cannot be used is
no error until a spec uses it. Our own names are never another's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .diagnostics import listed
from .structure import FOLDER

if TYPE_CHECKING:
    from importlib.metadata import Distribution

Kind = Literal["terms", "metrics", "families"]
KINDS: tuple[Kind, ...] = ("terms", "metrics", "families")
WORDS: Mapping[Kind, str] = {"terms": "term", "metrics": "metric", "families": "family"}
OWN = "distilc"
EXTENDED = ("teacher", "student", "pseudo-labels", "train", "evaluate", "benchmark")  # stages with models
MAX_BYTES = 1 << 20
NOT_CONTENT = (".pyc", ".pyo", ".pth")
NAMES = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
RESERVED = ("total",)  # `loss/total` is logged
_OF_PACKAGE = re.compile(r"(?P<name>.+?)(-\d[^-]*(-[^-]+)*)?\.(dist-info|egg-info)|.+\.egg", re.IGNORECASE)


@dataclass(frozen=True)
class Problem:
    """Why a registered name cannot be used."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True)
class Extension:
    """One registered name. `facts`: its part of the schema fragment; `problem` None: it can be used."""

    kind: Kind
    name: str
    distribution: str
    version: str
    module: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    problem: Problem | None = None

    @property
    def package(self) -> str:
        """`distilc-focal 0.1.0`."""
        return f"{self.distribution} {self.version}".rstrip()

    @property
    def words(self) -> str:
        """`the term focal of distilc-focal 0.1.0`."""
        return f"the {WORDS[self.kind]} {self.name} of {self.package}"


@dataclass(frozen=True)
class Installed:
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
    found: dict[Kind, dict[str, Extension]] = {kind: {} for kind in KINDS}
    shadowing: dict[Kind, dict[str, Extension]] = {kind: {} for kind in KINDS}
    for extension in _registered():
        kind, name = extension.kind, extension.name
        if name in ours[kind]:
            shadowing[kind].setdefault(name, extension)
        elif name not in found[kind]:
            found[kind][name] = extension
        elif found[kind][name].distribution != extension.distribution:
            found[kind][name] = _twice(found[kind][name], extension)
    return Installed({kind: dict(sorted(found[kind].items())) for kind in KINDS}, shadowing)


def usable_metrics(task: str) -> tuple[str, ...]:
    """The metrics of installed packages that fit a task."""
    return tuple(name for name, metric in installed().usable("metrics").items() if task in metric.facts["tasks"])


def with_extensions(
    kind: str, settings: Mapping[str, Any], needed: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any]:
    """The settings of a stage with its `extensions`: `kind.name` -> distribution, version and content hash of
    each that its result depends on. `needed`: the stages that it needs; who loads a model depends on the
    package of its family. Stages of data alone depend on none."""
    if kind not in EXTENDED:
        return settings
    used = {
        name: record
        for stage in needed
        for name, record in stage["settings"].get("extensions", {}).items()
        if name.startswith("families.")
    }
    metrics = list(settings.get("metrics", ()))
    if kind == "train":
        metrics += settings["validation"]["metrics"]
    names: dict[Kind, Any] = {
        "terms": settings["objective"]["own"] if kind == "train" else (),
        "metrics": metrics,
        "families": (settings["family"],) if "family" in settings else (),
    }
    for group in KINDS:
        for name in names[group]:
            extension = installed().names[group].get(name)
            if extension is not None and extension.problem is None:
                used[f"{group}.{name}"] = record(extension)
    return {**settings, "extensions": dict(sorted(used.items()))}


def record(extension: Extension) -> dict[str, str]:
    """What names an extension in a plan."""
    return {
        "distribution": extension.distribution,
        "version": extension.version,
        "sha256": content_hash(extension.distribution, extension.module),
    }


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
    for name, distribution in _distributions().items():
        if name == OWN:
            continue
        try:
            points = sorted(distribution.entry_points, key=lambda point: (point.group, point.name))
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
        hint = f"this is for the author of {entry.distribution} to mend; to go without: pip uninstall {entry.distribution}"
        return replace(entry, problem=Problem(code, f"{entry.words} {message}", hint))

    if not NAMES.fullmatch(entry.name) or (entry.kind == "terms" and entry.name in RESERVED):
        return unusable("E554", "cannot be called so: a name has small letters, digits, `_` and `-`, and is not `total`")
    target = re.fullmatch(r"\s*([\w.]+)\s*:\s*([\w.]+)\s*(\[.*\])?\s*", value)
    origin = None if target is None else module_file(target[1])
    if target is None or origin is None:
        what = f"is registered as {value!r}, which is no `module:object`" if target is None else (
            f"is registered in the module {target[1]}, which is not installed")  # fmt: skip
        return unusable("E552", what)
    entry = replace(entry, module=target[1])
    file = fragment_file(origin, target[1])
    if target[1] not in fragments:
        fragments[target[1]] = _read_fragment(file)
    fragment = fragments[target[1]]
    reason = fragment if isinstance(fragment, str) else _misfit(fragment, entry)
    if reason:
        return unusable("E553", f"cannot be used: {file.parent.name}/{file.name} {reason}")
    return replace(entry, facts=fragment[entry.kind][entry.name])


def _twice(one: Extension, other: Extension) -> Extension:
    message = f"the {WORDS[one.kind]} {one.name} is registered twice, by {listed([one.package, other.package], 'and')}"
    hint = f"uninstall the one that is not meant: pip uninstall {one.distribution}, or {other.distribution}"
    return Extension(one.kind, one.name, one.distribution, one.version, "", problem=Problem("E551", message, hint))


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
    from jsonschema import Draft202012Validator

    try:
        facts = fragment[entry.kind][entry.name]
    except (TypeError, KeyError, IndexError):
        return f"says nothing of `{entry.kind}.{entry.name}`"
    schema = json.loads((FOLDER / "extension.schema.json").read_text("utf-8"))
    fits = {"$ref": f"#/$defs/{WORDS[entry.kind]}", "$defs": schema["$defs"]}
    for error in Draft202012Validator(fits).iter_errors(facts):
        where = ".".join(map(str, (entry.kind, entry.name, *error.absolute_path)))
        return f"is wrong at `{where}`: {error.message}"
    for name, setting in facts.get("properties", {}).items():
        for value in (setting["default"],) if "default" in setting else ():
            for error in Draft202012Validator(setting).iter_errors(value):
                return f"is wrong at `{entry.kind}.{entry.name}.properties.{name}.default`: {error.message}"
    return ""


@cache
def _our_names() -> Mapping[Kind, frozenset[str]]:
    root = json.loads((FOLDER / "experiment.schema.json").read_text("utf-8"))
    known = root["$defs"]
    metrics = {*root["$defs"]["expectation"]["properties"], *known["stopping"]["properties"]["monitor"]["enum"]}
    return {
        "terms": frozenset(known["loss"]["properties"]),
        "metrics": frozenset(metrics),
        "families": frozenset(_our_families()),
    }


def _our_families() -> Iterator[str]:
    from .families import OURS

    yield from OURS


# --- what a package is -----------------------------------------------------------------------------


@cache
def _distributions() -> dict[str, Distribution]:
    """Name -> distribution, the first of its name on the path."""
    from importlib.metadata import distributions

    found: dict[str, Distribution] = {}
    for distribution in distributions():
        try:
            found.setdefault(distribution.name, distribution)
        except Exception:  # metadata of somebody else's that cannot be read
            continue
    return found


@cache
def content_hash(distribution: str, module: str) -> str:
    """sha256 over names and contents of the files of a distribution: those that its RECORD lists, or, of an
    editable install, those of the module's top-level package. Compiled files and metadata do not count.

    The runtime computes the same number (`runtime/extensions.py`).
    """
    origin = module_file(module)
    files = _recorded(_distributions()[distribution])
    if origin is not None and origin not in files.values():
        files = _sources(origin, module)
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        content = file.read_bytes() if file.is_file() else b""
        digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def _recorded(distribution: Distribution) -> dict[str, Path]:
    import csv

    files: dict[str, Path] = {}
    for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        parts = Path(row[0]).parts if row else ()
        if not parts or parts[0] in ("..", "/") or parts[0].endswith((".dist-info", ".data")):
            continue
        if "__pycache__" not in parts and not row[0].endswith(NOT_CONTENT) and not parts[0].startswith("__editable__"):
            files[Path(row[0]).as_posix()] = Path(str(distribution.locate_file(row[0]))).resolve()
    return files


def _sources(origin: Path, module: str) -> dict[str, Path]:
    depth = len(module.split(".")) - (0 if origin.stem == "__init__" else 1)
    if depth == 0:
        return {file.name: file for file in (origin, fragment_file(origin, module)) if file.is_file()}
    top = origin.parents[depth - 1]
    found = (file for file in top.rglob("*") if file.is_file() and not file.name.endswith(NOT_CONTENT))
    names = {file.relative_to(top.parent): file for file in found}
    return {
        name.as_posix(): file
        for name, file in names.items()
        if not any(part == "__pycache__" or part.startswith(".") for part in name.parts)
    }
