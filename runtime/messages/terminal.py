"""Text on its way to the terminal: the one place of this half that writes there. Names of columns, files and runs,
texts and answers of servers come from others, and a terminal does what control characters say.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

# C0 but tab and line feed, DEL, C1, line and paragraph separators, what turns the direction of writing, halves of
# characters, invisible tags.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_COLORS = re.compile("(\033\\[[0-9;]{1,8}m)")


def tell(text: str, *, end: str = "\n", err: bool = False, color: bool = False) -> None:
    """Write text, on standard error if asked. `color`: it has colours, which stay."""
    parts = _COLORS.split(text) if color else [text]
    written = "".join(part if i % 2 else clean(part) for i, part in enumerate(parts))
    print(written, end=end, file=sys.stderr if err else sys.stdout, flush=True)


def clean(text: str) -> str:
    """`text` with its control characters written as JSON escapes them, so that JSON stays what it is."""
    return _CONTROL.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def aligned(rows: Sequence[Sequence[str]], *, right: bool = False, rule: bool = False) -> list[str]:
    """Rows of cells -> lines of text in columns. `right`: all columns but the first end at the same place, as numbers
    should; `rule`: a line under the first row, the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    if rule:
        rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) if right else cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip())
    return lines


def drawing_console(**options: Any) -> Any:
    """A console of rich, for bars and tables, that writes clean text."""
    from rich.console import Console
    from rich.segment import Segment

    class Clean(Console):
        def render(self, renderable: Any, options: Any = None) -> Any:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(clean(segment.text), segment.style)

    return Clean(**{"highlight": False, **options})
