"""`distilc compile`: the plans of a spec, written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..diagnostics.diagnostic import Places, Reporter
from .options import FOLDER, ONLY, site_of, spec_options
from .output import leave, tell
from .plans import chosen_runs, lowered, write_plans


@click.command()
@click.argument("spec", type=FOLDER)
@click.option("-o", "--output", type=FOLDER, metavar="DIR", help="Default: plans/ in the workspace.")
@click.option("--locked", is_flag=True, help="Fail when anything differs from the lock.yaml that is there.")
@ONLY
@spec_options
def compile(  # the command's name; nothing here needs Python's own
    spec: Path, output: Path | None, locked: bool, only: tuple[str, ...], overrides: tuple[str, ...], **options: Any
) -> None:
    """Write the plan of SPEC: one folder DIR/NAME for each run.

    \b
    Example:  distilc compile spec.yaml -o plans
              distilc compile spec.yaml -o plans --locked --only 'kd-*'
              distilc run plans

    A plan folder holds plan.json (everything the run needs), deepspeed.<stage>.json, launch.sh (the commands
    by hand) and lock.yaml (versions and fingerprints). It runs where it was compiled for: the devices
    are in it.

    Exit codes: 0 written, 1 the spec is wrong or (--locked) something moved, 2 wrong usage.
    """
    site = site_of(**options)
    compiled = chosen_runs(spec, overrides, site, only)
    plans = lowered(compiled, site)
    folder = output or site.workspace / "plans"
    if locked:
        from ..plan.lock import check_locked

        reporter = Reporter(Places(), file=spec)
        check_locked([(plan, folder / plan.name / "lock.yaml") for plan in plans], reporter)
        if reporter.failed:
            leave(reporter.diagnostics, compiled.texts)
    for written in write_plans(plans, folder, "--workspace" if output is None else "-o"):
        tell(f"{written}\n")
