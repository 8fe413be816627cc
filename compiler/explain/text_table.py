"""Columns of text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], *, right: bool = False, gap: int = 3, indent: int = 2) -> list[str]:
    """The rows with their columns aligned and `indent` spaces before them; `right`: all but the first column end at
    the same place, as numbers should."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) if rows else 0)]

    def aligned(i: int, cell: str) -> str:
        return cell.rjust(widths[i]) if right and i else cell.ljust(widths[i])

    return [" " * indent + (" " * gap).join(aligned(i, cell) for i, cell in enumerate(row)).rstrip() for row in rows]
