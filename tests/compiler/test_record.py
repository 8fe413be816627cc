"""Frozen records: what a dataclass does, they do."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict, field, replace
from typing import Any

import pytest

from distilc.compiler.diagnostics.record import record


@record
class Point:
    x: int
    y: int = 2
    names: dict[str, int] = field(default_factory=dict)


def test_fields_are_given_by_place_or_name() -> None:
    assert Point(1) == Point(x=1, y=2, names={}) == Point(1, 2, {})
    assert Point(1).names is not Point(1).names
    assert Point(1, y=3) == replace(Point(1), y=3) != Point(1)
    assert asdict(Point(1)) == {"x": 1, "y": 2, "names": {}}
    assert repr(Point(1)) == "Point(x=1, y=2, names={})"


@pytest.mark.parametrize(("given", "named"), [((), {}), ((1, 2, {}, 4), {}), ((1,), {"x": 1}), ((1,), {"z": 3})])
def test_nothing_is_missing_or_twice_or_unknown(given: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Point(*given, **named)


def test_it_is_frozen_and_has_a_hash() -> None:
    point: Any = Point(1)
    with pytest.raises(FrozenInstanceError):
        point.x = 2
    with pytest.raises(FrozenInstanceError):
        del point.x
    first: Any = Point(1, 2, ())  # type: ignore[arg-type]
    assert len({first, Point(1, 2, ())}) == 1  # type: ignore[arg-type]
