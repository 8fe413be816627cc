"""Frozen records by keyword: dataclasses whose methods are not generated one by one.

`@dataclass(frozen=True, kw_only=True)` writes and compiles six methods for every class, a millisecond each
class. The spec has thirty of them, and `distilc check` is to answer at once. `fields`, `asdict` and `replace`
work as for any dataclass; there are no defaults.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from typing import Any, TypeVar, dataclass_transform

Kind = TypeVar("Kind")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def record(kind: type[Kind]) -> type[Kind]:
    """Make a class with annotations a frozen record, compared and shown by its fields."""
    made: Any = dataclass(init=False, repr=False, eq=False)(kind)
    for method in (__init__, __eq__, __hash__, __repr__, __setattr__, __delattr__):
        setattr(made, method.__name__, method)
    return made  # type: ignore[no-any-return]


def __init__(self: Any, /, **values: Any) -> None:
    names = self.__dataclass_fields__
    if values.keys() != names.keys():
        raise TypeError(f"{type(self).__name__} has {sorted(names)}, not {sorted(values)}")
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
