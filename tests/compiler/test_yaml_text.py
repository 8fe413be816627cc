"""Plain data as YAML: it is read back as it was, by us and by others, and people can read it, too."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from distilc.compiler.diagnostics.diagnostic import Places, Reporter
from distilc.compiler.spec.parse import flatten, parse_value
from distilc.compiler.spec.yaml_text import yaml_text

TEXTS = st.text(max_size=20) | st.sampled_from(
    ["null", "Yes", "off", "~", "1e3", "12e4567", "0x1F", "1_000", "2026-11-20", "=", "<<", "- a", "a: b", "a #b", " a"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_it_is_read_back_as_it_was(tree: dict[str, Any]) -> None:
    text = yaml_text(tree)
    assert YAML(typ="safe", pure=True).load(text) == tree


@given(TEXTS)
def test_our_own_reader_takes_every_text(text: str) -> None:
    """It refuses control characters and what looks like another type, which must therefore be quoted."""
    reporter = Reporter(Places())
    node = parse_value(yaml_text({"key": text}), "file", reporter)
    assert not reporter.failed and node is not None
    assert flatten(node, Places()) == {"key": text}


def test_a_number_is_written_as_it_is_whatever_was_written_before() -> None:
    """Equal numbers may be other texts, and a spec with another text has other keys."""
    for value in (-0.0, 0.0, 1, 1.0, True, 0, False):
        assert yaml_text({"a": value}) == f"a: {str(value).lower()}\n"


def test_how_it_looks() -> None:
    tree = {
        "name": "bart-xsum", "betas": [0.9, 1e-8], "none": [], "empty": {}, "off": None, "commit": "12e4567",
        "data": [{"files": ["a.jsonl", "b c.jsonl"], "limit": 3}, {"hub": "org/rows"}], "nested": [[1, 2], [3]],
        "long": ["x" * 60, "y" * 60],
    }  # fmt: skip
    assert yaml_text(tree) == (
        'name: bart-xsum\nbetas: [0.9, 1e-08]\nnone: []\nempty: {}\n"off": null\ncommit: "12e4567"\n'
        "data:\n  - files: [a.jsonl, b c.jsonl]\n    limit: 3\n  - hub: org/rows\n"
        f"nested:\n  - [1, 2]\n  - [3]\nlong:\n  - {'x' * 60}\n  - {'y' * 60}\n"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_value_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="is no value of a spec"):
        yaml_text({"key": [value]})
