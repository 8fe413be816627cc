"""Plain data -> YAML, for people to read and for `distilc` to read again: block style, short lists on one line.

Every text comes back as it was: what could be read as anything else stands in double quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

PLAIN = re.compile(r"[A-Za-z_/](?:[A-Za-z0-9_./@+-]| (?=[A-Za-z0-9_./@+-]))*\Z")
_BESIDE = re.compile(r"\.{1,2}/[A-Za-z0-9_./+-]*\Z")  # of a location that is relative
WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}  # those of YAML 1.1, too: other readers
WIDTH = 100


def yaml_text(tree: Mapping[str, Any]) -> str:
    """A mapping of JSON values as YAML 1.2; ends with a newline. Raises `ValueError` for NaN and infinities."""
    return "".join(f"{line}\n" for line in _mapping(tree, "")) or "{}\n"


def _mapping(tree: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in tree.items():
        yield from _entry(f"{indent}{_scalar(str(key))}:", value, f"{indent}  ")


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:
    """`head` with its value: on the same line, or below it, indented."""
    line = _on_one_line(value, WIDTH - len(head))
    if line is not None:
        yield f"{head} {line}"
        return
    yield head
    if isinstance(value, Mapping):
        yield from _mapping(value, indent)
        return
    for item in value:
        if isinstance(item, Mapping) and item:
            first, *rest = _mapping(item, f"{indent}  ")
            yield f"{indent}- {first.lstrip()}"
            yield from rest
        else:
            yield from _entry(f"{indent}-", item, f"{indent}  ")


def _on_one_line(value: Any, width: int) -> str | None:
    """A scalar, an empty collection, or a list of scalars that fits; None: it needs lines of its own."""
    if isinstance(value, Mapping):
        return None if value else "{}"
    if not isinstance(value, list | tuple):
        return _scalar(value)
    if any(isinstance(item, Mapping | list | tuple) for item in value):
        return None
    line = f"[{', '.join(map(_scalar, value))}]"
    return line if len(line) <= width or not value else None


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if value - value != 0:
            raise ValueError(f"{value} is no value of a spec")
        return repr(value)
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no plain value")
    return _text(value)


@lru_cache(maxsize=1 << 16)  # texts alone: numbers may be equal and not the same text (1 and 1.0, 0.0 and -0.0)
def _text(value: str) -> str:
    if PLAIN.match(value) and value.lower() not in WORDS:
        return value
    return '"' + "".join(map(_escaped, value)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character == "\n":
        return "\\n"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def flow(value: Any) -> str:
    """A value as one line of YAML, for a hint."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return value if _BESIDE.match(value) else _scalar(value)
    return str(value)
