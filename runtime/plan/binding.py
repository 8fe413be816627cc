"""JSON data <-> records, strictly, by the types of the records' fields."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..failure import Failure

MOST_SEED = 2**32 - 1  # torch takes 64 bits, and a step's own seed is made of this one


def bind(kind: Any, value: Any, path: str) -> Any:
    """`value` as `kind` (a dataclass, tuple, mapping, literal, union or plain type), strictly."""
    if kind is Any or (isinstance(kind, type) and is_dataclass(kind) and isinstance(value, kind)):
        return value
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        choices = get_args(kind)
        if value is None and NoneType in choices:
            return None
        remaining = [choice for choice in choices if choice is not NoneType]
        if len(remaining) == 1:
            return bind(remaining[0], value, path)
        for choice in remaining:
            try:
                return bind(choice, value, path)
            except Failure:
                continue
        raise misfit(path, f"{value!r:.120} is none of {kind}")
    if origin is Literal:
        if value not in get_args(kind):
            raise misfit(path, f"{value!r:.120} is not one of {', '.join(map(str, get_args(kind)))}")
        return value
    if origin is tuple:
        return _bind_tuple(get_args(kind), value, path)
    if origin in (Mapping, dict):
        if not isinstance(value, Mapping):
            raise misfit(path, "must be a mapping")
        item = get_args(kind)[1]
        return {str(key): bind(item, entry, f"{path}.{key}") for key, entry in value.items()}
    if is_dataclass(kind):
        return _bind_dataclass(kind, value, path)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise misfit(path, f"must be {kind.__name__}, is {value!r:.120}")
    if kind is float and not math.isfinite(value):
        raise misfit(path, "is no finite number")
    return value


def as_written(value: Any) -> Any:
    """A bound part of a plan as JSON data, as the plan has it: without the options that are off."""
    if is_dataclass(value) and not isinstance(value, type):
        found = {entry.name: (entry, getattr(value, entry.name)) for entry in fields(value)}
        return {name: as_written(item) for name, (entry, item) in found.items() if not _is_off(entry, item)}
    if isinstance(value, Mapping):
        return {key: as_written(item) for key, item in value.items()}
    return [as_written(item) for item in value] if isinstance(value, list | tuple) else value


def _is_off(entry: Field[Any], value: Any) -> bool:
    if entry.name == "extensions":
        return False  # always written
    factory = entry.default_factory
    return bool(value == (entry.default if factory is MISSING else factory()))


def _bind_tuple(items: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise misfit(path, "must be a list")
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(bind(items[0], entry, f"{path}[{i}]") for i, entry in enumerate(value))
    if len(items) != len(value):
        raise misfit(path, f"must have {len(items)} entries, has {len(value)}")
    return tuple(
        bind(item, entry, f"{path}[{i}]") for i, (item, entry) in enumerate(zip(items, value, strict=True))
    )


def _bind_dataclass(kind: Any, value: Any, path: str) -> Any:
    if not isinstance(value, Mapping):
        raise misfit(path, "must be a mapping")
    hints = get_type_hints(kind)
    names = {entry.name: entry for entry in fields(kind)}
    for key in value:
        if key not in names:
            raise misfit(path, f"has an unknown key {key!r}")
    for name, entry in names.items():
        if name not in value and entry.default is MISSING and entry.default_factory is MISSING:
            raise misfit(path, f"lacks the key {name!r}")
    seed = value.get("seed")
    if isinstance(seed, int) and not 0 <= seed <= MOST_SEED:
        raise misfit(f"{path}.seed", f"must be a number from 0 to {MOST_SEED}, is {seed!r:.120}")
    return kind(**{name: bind(hints[name], entry, f"{path}.{name}") for name, entry in value.items()})


def misfit(path: str, message: str) -> Failure:
    return Failure("R104", f"{path} {message}", "compile the spec again with the installed version")
