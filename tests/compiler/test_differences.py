"""Where two trees differ."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distilc.compiler.spec.differences import differences

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, "a", ""])
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)


@pytest.mark.parametrize(
    ("a", "b", "found"),
    [
        ({"x": 1}, {"x": 1.0}, []),
        ({"x": None}, {}, []),
        ({"x": True}, {"x": 1}, [(("x",), True, 1)]),
        ({"x": [1, True]}, {"x": [1, 1]}, [(("x", 1), True, 1)]),
        ({"x": {"y": 1, "z": 2}}, {"x": {"y": 3, "z": 2}}, [(("x", "y"), 1, 3)]),
        ({"x": [1, 2]}, {"x": [1]}, [(("x",), [1, 2], [1])]),
        ({"x": [1]}, {"x": (1,)}, []),
        ({"x": {"y": 1}}, {}, [(("x",), {"y": 1}, None)]),
        ({"b": 1, "a": 1}, {"a": 2, "b": 2, "c": 2}, [(("b",), 1, 2), (("a",), 1, 2), (("c",), None, 2)]),
    ],
)
def test_examples(a: Any, b: Any, found: list[Any]) -> None:
    assert [tuple(difference) for difference in differences(a, b)] == found


@given(TREES, TREES)
def test_it_is_empty_for_equal_trees_and_the_same_from_both_sides(a: Any, b: Any) -> None:
    assert not list(differences(a, copy.deepcopy(a)))
    forth = {path: (one, other) for path, one, other in differences(a, b)}
    back = {path: (other, one) for path, one, other in differences(b, a)}
    assert forth == back


@given(TREES, TREES)
def test_putting_every_difference_right_makes_them_equal(a: Any, b: Any) -> None:
    mended = copy.deepcopy({"root": a})
    for path, _, right in differences(mended, {"root": b}):
        inside: Any = mended
        for step in path[:-1]:
            inside = inside[step]
        inside[path[-1]] = right
    assert not list(differences(mended, {"root": b}))
