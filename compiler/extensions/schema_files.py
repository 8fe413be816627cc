"""The files of `schema/`, and what holds a value to them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "schema"


def read_schema(name: str) -> dict[str, Any]:
    """The schema of this name, as its file has it."""
    root: dict[str, Any] = json.loads((FOLDER / f"{name}.schema.json").read_text("utf-8"))
    return root


def validator(root: Mapping[str, Any]) -> Any:
    """What holds values to a schema: jsonschema's validator of draft 2020-12, but for `pattern`."""
    return _validator_class()(root)


@cache
def _validator_class() -> Any:
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    def pattern(_: Any, text: str, instance: Any, __: Any) -> Iterator[Any]:
        if isinstance(instance, str) and not re.search(_as_python(text), instance):
            yield ValidationError(f"{instance!r} does not match {text!r}")

    return extend(Draft202012Validator, {"pattern": pattern})  # type: ignore[no-untyped-call]


@cache
def _as_python(pattern: str) -> str:
    """A pattern of a schema, whose `$` is the end of the text: Python's also stands before a last line feed, and a
    name would end in one."""
    kept = r"(\\.|\[\^?\]?(?:\\.|[^\]\\])*\])"  # an escaped character, a set of characters
    return re.sub(rf"{kept}|\$", lambda found: found[1] or r"\Z", pattern)
