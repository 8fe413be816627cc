"""Where two trees of plain values differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..diagnostics.diagnostic import Trail


class Difference(NamedTuple):
    """A value that is not the same in two trees. None: it is null, or not there at all."""

    path: Trail
    a: Any
    b: Any


def differences(a: Any, b: Any, path: Trail = ()) -> Iterator[Difference]:
    """Every place where two trees differ, as deep as both have the same structure, in the order of the first.
    A null and a key that is not there are the same; a boolean and a number are not; 1 and 1.0 are."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in [*a, *(key for key in b if key not in a)]:
            yield from differences(a.get(key), b.get(key), (*path, key))
    elif _is_list(a) and _is_list(b) and len(a) == len(b):
        for i, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from differences(one, other, (*path, i))
    elif isinstance(a, bool) != isinstance(b, bool) or not _equal(a, b):
        yield Difference(path, a, b)


def _equal(a: Any, b: Any) -> bool:
    if _is_list(a) and _is_list(b):
        return len(a) == len(b) and not any(differences(a, b))
    return bool(a == b)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
