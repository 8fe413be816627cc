"""Specs of the command line -> their runs and their plans, or the end of the command with a diagnosis."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..diagnostics.diagnostic import Places, Reporter
from ..pipeline import compile_spec, lower_runs, read_data
from ..resolve.site import Site
from ..spec.compiled import Compiled
from ..spec.selection import choose_runs
from .output import leave, show, tell

if TYPE_CHECKING:
    from ..plan.plan import Plan

MOST_BYTES_READ_BEFORE = 64 << 20  # `run` reads data files up to this size before it starts anything


def chosen_runs(spec: Path, overrides: tuple[str, ...], site: Site, only: Sequence[str]) -> Compiled:
    """A spec with its runs that `--only` means."""
    compiled = compile_spec(spec, overrides, site)
    (chosen,) = choose_of_all([compiled], [], only)[0]
    return chosen


def choose_of_all(
    specs: Sequence[Compiled], others: Sequence[str], only: Sequence[str]
) -> tuple[list[Compiled], list[int]]:
    """The specs with the runs that `--only` means, and the indices of the `others` (names of compiled plans)
    that it means. A pattern that means nothing ends the command, unless a spec is so wrong that its runs are
    not known: then that is what there is to say."""
    if not only or not all(compiled.runs for compiled in specs):
        return list(specs), list(range(len(others)))
    runs = [(i, run) for i, compiled in enumerate(specs) for run in compiled.runs]
    names: list[tuple[str, str | None]] = [(run.experiment.name, run.label) for _, run in runs]
    reporter = Reporter(Places())
    chosen = set(choose_runs([*names, *((name, None) for name in others)], only, "--only", reporter))
    if reporter.failed:
        leave(reporter.diagnostics, {"--only": "\n".join(only)})
    kept = [
        replace(compiled, runs=[run for j, (of, run) in enumerate(runs) if of == i and j in chosen])
        for i, compiled in enumerate(specs)
    ]
    return kept, [i for i in range(len(others)) if len(runs) + i in chosen]


def lowered(compiled: Compiled, site: Site, *, with_data: bool = False) -> list[Plan]:
    """The plans of the runs, with their keys, in order; ends with exit code 1 when something is wrong.
    `with_data`: small data files are read, too, before processes are started for them."""
    plans: list[Plan] = []
    if compiled.runs:
        plans, compiled = lower_runs(compiled, site, fingerprints=not compiled.failed)
        if with_data and not compiled.failed:
            compiled = read_data(compiled, MOST_BYTES_READ_BEFORE)
    if compiled.failed:
        leave(compiled.diagnostics, compiled.texts)
    show(compiled.diagnostics, compiled.texts)
    return plans


def write_plans(plans: Sequence[Plan], folder: Path, option: str = "--workspace") -> list[Path]:
    """Write the plans below a folder, which `option` says; ends with exit code 1 when that cannot be done."""
    from ..plan.emit import emit_all

    try:
        return emit_all(plans, folder)
    except OSError as error:
        tell(f"error: cannot write {error.filename or folder}: {error.strerror}\n", err=True)
        tell(f"hint: choose another folder with {option} DIR\n", err=True)
        sys.exit(1)
