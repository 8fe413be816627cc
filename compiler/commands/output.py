"""What commands say: the one place of this half that writes to the terminal, and the end of a command."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from ..diagnostics.diagnostic import Diagnostic, render_text

# C0 but tab and line feed, DEL, C1, line and paragraph separators, what turns the direction of writing, halves of
# characters, invisible tags.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_COLORS = re.compile("(\033\\[[0-9;]{1,8}m)")


def tell(text: str, *, err: bool = False, color: bool = False) -> None:
    """Write text, on standard error if asked. Names of columns, files and runs come from others, and a terminal does
    what control characters say: they are written as JSON escapes them, so that JSON stays what it is. `color`: the
    text has colours, which stay."""
    parts = _COLORS.split(text) if color else [text]
    clean = "".join(part if i % 2 else _CONTROL.sub(_escaped, part) for i, part in enumerate(parts))
    stream = sys.stderr if err else sys.stdout
    stream.write(clean)


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def has_color(stream: Any) -> bool:
    """Is it a terminal whose user wants colours?"""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def show(diagnostics: Iterable[Diagnostic], texts: Mapping[str, str]) -> None:
    """Diagnostics on standard error, where a command's own output does not mix with them."""
    color = has_color(sys.stderr)
    tell(render_text(diagnostics, texts, color), err=True, color=color)


def leave(diagnostics: Iterable[Diagnostic], texts: Mapping[str, str]) -> NoReturn:
    """Show the diagnostics and end with exit code 1."""
    show(diagnostics, texts)
    sys.exit(1)
