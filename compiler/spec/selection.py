"""Runs chosen by name: `--only PATTERN`, and `SPEC#PATTERN` of `diff`."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from ..diagnostics.diagnostic import Position, Reporter, did_you_mean, quoted

MOST_SHOWN = 12


def choose_runs(
    names: Sequence[tuple[str, str | None]], patterns: Sequence[str], option: str, reporter: Reporter
) -> list[int]:
    """The indices of the runs that a pattern means, in order; all of them when there is no pattern.

    `names`: (full name, label) of each run, the label None where only the full name is known (of a compiled
    plan). Reports E561 for a pattern that means none; its place is a line of the "file" `option`.
    """
    if not patterns:
        return list(range(len(names)))
    chosen: set[int] = set()
    for line, pattern in enumerate(patterns, 1):
        found = {i for i, (name, label) in enumerate(names) if is_meant(pattern, name, label)}
        if not found:
            message = f"no run has the name {quoted(pattern)}"
            reporter.error_at("E561", Position(option, line, 1), message, _known(pattern, names))
        chosen |= found
    return sorted(chosen)


def is_meant(pattern: str, name: str, label: str | None) -> bool:
    """Does a pattern mean a run? With `*`, `?` or `[` it is held to the full name and to the label, case and
    all; without, it must be one of them. A label that is not known is any end of the name after a dash."""
    if any(character in pattern for character in "*?["):
        return fnmatchcase(name, pattern) or fnmatchcase(label or "", pattern)
    return pattern == name or (name.endswith(f"-{pattern}") if label is None else pattern == label != "")


def _known(pattern: str, names: Sequence[tuple[str, str | None]]) -> str:
    """The runs that there are, and the one that was probably meant."""
    shown = [label or name for name, label in names]
    near = did_you_mean(pattern, shown) or did_you_mean(pattern, [name for name, _ in names])
    more = f" and {len(shown) - MOST_SHOWN} more" if len(shown) > MOST_SHOWN else ""
    there = f"the runs are {', '.join(shown[:MOST_SHOWN])}{more}"
    return f"did you mean {near}? {there}" if near else there
