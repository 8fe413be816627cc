"""Diagnostics on the terminal, and the end of a command because of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from ..diagnostics import Diagnostic, render_text


def has_color(stream: Any) -> bool:
    """Is it a terminal whose user wants colours?"""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def show(diagnostics: Iterable[Diagnostic], texts: Mapping[str, str]) -> None:
    """Diagnostics on standard error, where a command's own output does not mix with them."""
    sys.stderr.write(render_text(diagnostics, texts, has_color(sys.stderr)))


def leave(diagnostics: Iterable[Diagnostic], texts: Mapping[str, str]) -> NoReturn:
    """Show the diagnostics and end with exit code 1."""
    show(diagnostics, texts)
    sys.exit(1)
