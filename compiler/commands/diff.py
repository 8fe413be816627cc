"""`distilc diff`: what differs between two specs, plans or finished runs."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from ..diagnostics.diagnostic import Places, Reporter
from .options import site_of, spec_options
from .output import leave, show, tell


@click.command(short_help="What differs between two specs, plans or runs.")
@click.argument("a")
@click.argument("b")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--exit-code", "by_exit_code", is_flag=True, help="Exit with 1 when they differ.")
@spec_options
def diff(a: str, b: str, as_json: bool, by_exit_code: bool, overrides: tuple[str, ...], **options: Any) -> None:
    """What differs between A and B: values of the spec, models and data, stages and why, results.

    \b
    Example:  distilc diff mine.yaml theirs.yaml
              distilc diff spec.yaml#sft spec.yaml#kd
              distilc diff spec.yaml .distilc/plans/my-run
              distilc diff my-run-1a2b3c4d my-run-5e6f7a8b

    Each is a spec, a plan folder, or a run of the workspace (`distilc status` lists them). `#PATTERN` behind a
    spec or a folder of plans means some of its runs, as --only does. A default that is written out is no
    difference. Several runs are compared by name. Nothing is run.

    Exit codes: 0 compared (with --exit-code: and equal), 1 a spec is wrong or there is no such thing (with
    --exit-code: or they differ), 2 wrong usage.
    """
    from ..explain.diff import diff_runs, pair_runs
    from ..explain.diff_text import diff_json, diff_text
    from ..explain.sides import read_side

    site = site_of(**options)
    reporter = Reporter(Places())
    sides = [read_side(word, overrides, site, reporter) for word in (a, b)]
    for side in sides:
        if side is not None:
            show(side.diagnostics, side.texts)
    if reporter.failed:
        leave(reporter.diagnostics, {})
    one, other = (side.runs if side is not None else [] for side in sides)
    if not one or not other:
        sys.exit(1)
    pairing = pair_runs(one, other)
    differences = [diff_runs(*pair) for pair in pairing.pairs]
    if as_json:
        tell(json.dumps(diff_json(differences, pairing), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        tell(diff_text(differences, pairing))
    equal = not pairing.only_a and not pairing.only_b and all(found.equal for found in differences)
    incomplete = any(found.severity == "error" for side in sides if side is not None for found in side.diagnostics)
    sys.exit(1 if incomplete or (by_exit_code and not equal) else 0)
