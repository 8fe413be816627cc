"""Terms, metrics, families, stage kinds, ways to train and tasks by name: ours and those of installed packages, found
through entry points.

distilc's own are registered in the same groups as any other's. In a checkout they are read from its
pyproject.toml, so that an editable install need not be made again for a new one; elsewhere from the
metadata of the installed distribution. A name of ours is never another's.
"""

from __future__ import annotations

import errno
import importlib
import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

from .failure import Failure
from .files.package_content import content_hash
from .plan.plan import Stage
from .plan.settings import ExtensionRecord
from .protocol import Family, MethodKind, Metric, Task, Term

Kind = TypeVar("Kind")
OWN = "distilc"
KINDS = ("terms", "metrics", "families", "stages", "methods", "tasks")
WORDS = {
    "terms": "term", "metrics": "metric", "families": "family", "stages": "stage", "methods": "method", "tasks": "task"
}  # fmt: skip
SPEC_PATHS = {
    "terms": "loss", "metrics": "evaluation.metrics", "families": "teacher", "stages": "stages",
    "methods": "training.method", "tasks": "task",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One registered name. `value` is `module:object`; `distribution` the package that registers it."""

    kind: str
    name: str
    value: str
    distribution: str
    version: str

    @property
    def module(self) -> str:
        return self.value.partition(":")[0].strip()

    @property
    def attribute(self) -> str:
        return self.value.partition(":")[2].partition("[")[0].strip()

    @property
    def words(self) -> str:
        """`the term focal of distilc-focal 0.1.0`."""
        return f"the {WORDS[self.kind]} {self.name} of {self.distribution} {self.version}"

    def failure(self, message: str, hint: str = "") -> Failure:
        hint = hint or f"install another version of {self.distribution}, or take it out of the spec"
        return Failure("R108", f"{self.words} {message}", hint, spec_path=SPEC_PATHS[self.kind])


class Registry(Mapping[str, Kind], Generic[Kind]):
    """The objects of one kind by name. Each is imported when it is first asked for.

    Raises KeyError for a name that is not registered, `Failure` R108 for one that cannot be used.
    """

    def __init__(self, kind: str, type_: type[Any]) -> None:
        self.kind = kind
        self.type = type_
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Kind:
        if name not in self._loaded:
            self._loaded[name] = self._load(entry_of(self.kind, name))
        found: Kind = self._loaded[name]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(entries(self.kind))

    def __len__(self) -> int:
        return len(entries(self.kind))

    def __contains__(self, name: object) -> bool:
        return name in entries(self.kind)

    def _load(self, entry: Entry) -> Any:
        if entry.distribution == OWN:
            return _attribute(importlib.import_module(entry.module), entry.attribute)
        with blamed(entry):
            module = importlib.import_module(entry.module)
            found = _attribute(module, entry.attribute)
        if not isinstance(found, self.type):
            raise entry.failure(f"is a {type(found).__name__}, not a distilc.runtime.protocol.{self.type.__name__}")
        _check_facts(entry, found)
        return found


TASKS: Registry[Task] = Registry("tasks", Task)


def entry_of(kind: str, name: str) -> Entry:
    """The entry of a name. Raises KeyError (it is not registered), `Failure` R108 (several do)."""
    found = entries(kind)[name]
    if len(found) > 1:
        several = " and ".join(f"{entry.distribution} {entry.version}" for entry in found)
        raise Failure(
            "R108",
            f"the {WORDS[kind]} {name} is registered twice, by {several}",
            f"uninstall one of them: pip uninstall {found[-1].distribution}",
            spec_path=SPEC_PATHS[kind],
        )
    return found[0]


@cache
def entries(kind: str) -> dict[str, tuple[Entry, ...]]:
    """Name -> who registers it: us alone, or one or more other distributions."""
    own = {name: (Entry(kind, name, value, OWN, ""),) for name, value in _own(f"{OWN}.{kind}").items()}
    others: dict[str, dict[str, Entry]] = {}
    for distribution in _distributions():
        for point in _entry_points(distribution):
            if point.group == f"{OWN}.{kind}" and point.name not in own:
                entry = Entry(kind, point.name, point.value, distribution.name, distribution.version)
                others.setdefault(point.name, {}).setdefault(entry.distribution, entry)
    return own | {name: tuple(found.values()) for name, found in sorted(others.items())}


@contextmanager
def blamed(entry: Entry) -> Iterator[None]:
    """An exception within is blamed on the package that registers the entry. Raises `Failure` R108; failures, errors of
    our own code and those of a machine without memory pass unchanged."""
    try:
        yield
    except (Failure, MemoryError):
        raise
    except Exception as error:
        of_the_machine = "out of memory" in str(error).lower() or getattr(error, "errno", None) == errno.ENOSPC
        if entry.distribution == OWN or of_the_machine:
            raise
        lines = str(error).strip().splitlines() or ["no message"]
        raise entry.failure(f"failed: {type(error).__name__}: {lines[0]}") from error


def require(stages: Iterable[Stage]) -> None:
    """Are the extensions of these stages installed, with the content that the plan was compiled with?

    Raises `Failure` R107: one is missing, or is another.
    """
    asked = {name: record for stage in stages for name, record in getattr(stage.settings, "extensions", {}).items()}
    for full_name, record in sorted(asked.items()):
        kind, _, name = full_name.partition(".")
        _require(kind, name, record)


def _require(kind: str, name: str, record: ExtensionRecord) -> None:
    wanted = f"the {WORDS[kind]} {name} of {record.distribution} {record.version}"
    entry = entry_of(kind, name) if name in entries(kind) else None
    if entry is None or entry.distribution != record.distribution:
        instead = "" if entry is None else f"; here it is {entry.distribution or OWN}'s"
        raise Failure(
            "R107",
            f"the plan needs {wanted}, which is not installed{instead}",
            f"pip install {record.distribution}=={record.version}",
            spec_path=SPEC_PATHS[kind],
        )
    distribution = next(found for found in _distributions() if found.name == entry.distribution)
    if content_hash(distribution, entry.module, _origin(entry)) != record.sha256:
        raise Failure(
            "R107",
            f"{wanted} is not what the plan was compiled with: its files have changed"
            + ("" if entry.version == record.version else f" (here is {entry.version})"),
            f"compile the spec again, or install {record.distribution}=={record.version} as it was",
            spec_path=SPEC_PATHS[kind],
        )


def survey() -> Iterator[tuple[str, Failure | None]]:
    """Every name that another package registers, in words, with what is wrong with it. Nothing is imported but
    the packages above the modules."""
    for kind in KINDS:
        for name, found in entries(kind).items():
            if found[0].distribution == OWN:
                continue
            try:
                declared_facts(kind, name)
            except Failure as failure:
                yield found[0].words, failure
            else:
                yield found[0].words, None


# --- the files of a module -------------------------------------------------------------------------


def _origin(entry: Entry) -> Path:
    """The file of an entry's module. Raises `Failure` R108."""
    with blamed(entry):
        spec = importlib.util.find_spec(entry.module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"there is no module {entry.module}")
        return Path(spec.origin).resolve()


def _fragment_file(origin: Path, module: str) -> Path:
    return origin.with_name(f"{module.rpartition('.')[2]}.schema.json")


def declared_facts(kind: str, name: str) -> dict[str, Any]:
    """What the schema fragment of a package declares of a name. Raises as `entry_of`, and `Failure`
    R108 when there is no such fragment."""
    entry = entry_of(kind, name)
    origin = _origin(entry)
    with blamed(entry):
        facts: dict[str, Any] = json.loads(_fragment_file(origin, entry.module).read_text("utf-8"))[kind][name]
    return facts


def _check_facts(entry: Entry, found: Any) -> None:
    """Its schema fragment and its object must agree. Raises `Failure` R108."""
    told = declared_facts(entry.kind, entry.name)
    pairs: dict[str, tuple[Any, Any]] = {}
    with blamed(entry):
        if isinstance(found, Term):
            pairs["needs"] = (sorted(told["needs"]), sorted(found.needs))
        elif isinstance(found, Metric):
            pairs["needs"] = (told["needs"], found.needs)
            pairs["higher_is_better"] = (told["higher_is_better"], found.higher_is_better)
        elif isinstance(found, Family):
            pairs["model_type"] = (entry.name, found.model_type)
        elif isinstance(found, MethodKind):
            pairs["needs"] = (told["needs"], ["teacher"] if found.needs_teacher else [])
    for fact, (said, real) in pairs.items():
        if said != real:
            raise entry.failure(f"says {fact} {said} in its schema and {real} in its code")


# --- installed distributions -----------------------------------------------------------------------


@cache
def _distributions() -> list[metadata.Distribution]:
    """Those that may register something, each once: the first of its name on the path, which is the one that is
    imported. Reading the metadata of all would take a tenth of a second."""
    found: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions():
        try:
            if "distilc." not in (distribution.read_text("entry_points.txt") or ""):
                continue
            name = distribution.name
        except Exception:  # metadata of another package that cannot be read
            continue
        if name:
            found.setdefault(name, distribution)
    return list(found.values())


def _entry_points(distribution: metadata.Distribution) -> list[metadata.EntryPoint]:
    try:
        return list(distribution.entry_points)
    except Exception:
        return []


def _own(group: str) -> dict[str, str]:
    """Name -> value of what distilc registers itself. Raises `Failure` R108: its installation is damaged."""
    project = Path(__file__).resolve().parent.parent / "pyproject.toml"
    if project.is_file():
        import tomllib

        groups = tomllib.loads(project.read_text("utf-8"))["project"]["entry-points"]
        found: dict[str, str] = dict(groups[group])
    else:
        found = {
            point.name: point.value
            for distribution in _distributions()
            if distribution.name == OWN
            for point in _entry_points(distribution)
            if point.group == group
        }
    if not found:
        raise Failure(
            "R108", f"distilc's own {group} are not registered: its installation is damaged",
            "install it again: pip install --force-reinstall --no-deps distilc",
        )  # fmt: skip
    return found


def _attribute(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module
