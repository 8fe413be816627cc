"""Frozen records: dataclasses whose methods are not generated one by one.

`@dataclass(frozen=True)` writes and compiles six methods for every class, half a millisecond each class on a fast
machine. There are ninety of them on the way of a spec, and `distilc check` is to answer at once. `fields`, `asdict`,
`replace`, defaults and default factories work as for any dataclass.
"""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, dataclass, field
from typing import Any, TypeVar, dataclass_transform

Kind = TypeVar("Kind")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(kind: type[Kind]) -> type[Kind]:
    """Make a class with annotations a frozen record, compared and shown by its fields."""
    made: Any = dataclass(init=False, repr=False, eq=False)(kind)
    for method in (__init__, __eq__, __hash__, __repr__, __setattr__, __delattr__):
        setattr(made, method.__name__, method)
    return made  # type: ignore[no-any-return]


def __init__(self: Any, /, *given: Any, **values: Any) -> None:
    known = self.__dataclass_fields__
    if given:
        if len(given) > len(known):
            raise TypeError(f"{type(self).__name__} has {len(known)} fields, not {len(given)}")
        named = dict(zip(known, given, strict=False))
        if named.keys() & values.keys():
            raise TypeError(f"{type(self).__name__}: {sorted(named.keys() & values.keys())} twice")
        values = {**named, **values}
    if len(values) < len(known):
        for name, entry in known.items():
            if name not in values:
                if entry.default is not MISSING:
                    values[name] = entry.default
                elif entry.default_factory is not MISSING:
                    values[name] = entry.default_factory()
    if values.keys() != known.keys():
        raise TypeError(f"{type(self).__name__} has {sorted(known)}, not {sorted(values)}")
    self.__dict__.update(values)


def __eq__(self: Any, other: object) -> bool:
    return type(other) is type(self) and self.__dict__ == other.__dict__


def __hash__(self: Any) -> int:
    return hash(tuple(self.__dict__[name] for name in self.__dataclass_fields__))


def __repr__(self: Any) -> str:
    inside = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self.__dataclass_fields__)
    return f"{type(self).__name__}({inside})"


def __setattr__(self: Any, name: str, value: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def __delattr__(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")
