"""`peek`: a plan -> one micro-batch of its student's training, as tables or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..execution.console import Console
from ..execution.launch import become_single_process
from ..execution.processes import num_cores
from ..execution.store import open_store
from ..failure import Failure
from ..messages.terminal import drawing_console, tell
from ..plan.load import load_plan
from ..plan.plan import Plan

PLAIN_WIDTH = 100  # columns where nobody says how many there are


def main(argv: Sequence[str]) -> int:
    """`peek PLAN [options]`. Returns the exit code."""
    options = _parser().parse_args(argv)
    plan: Plan | None = None
    try:
        plan = load_plan(options.plan)
        if options.workspace is not None:
            plan = replace(plan, site=replace(plan.site, workspace=str(options.workspace.absolute())))
        # What is not the answer goes to stderr.
        with redirect_stdout(sys.stderr):
            facts = peek(plan, options)
    except Failure as failure:
        Console().failure(failure, None if plan is None else plan.place(failure.spec_path))
        return failure.exit_code
    except KeyboardInterrupt:
        return 130
    facts["runs"] = options.runs
    if options.format == "json":
        tell(json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False))
    else:
        _print(facts)
    return 0


def peek(plan: Plan, options: argparse.Namespace) -> dict[str, Any]:
    """The facts. Raises `Failure`: something that is needed cannot be had."""
    become_single_process(plan)
    os.environ["DS_ACCELERATOR"] = "cpu"  # all of it happens there
    import torch

    from ..peek.prepare import prepare
    from ..peek.sample import Asked, sample

    torch.set_num_threads(num_cores())
    store = open_store(plan.site)
    with tempfile.TemporaryDirectory(prefix="distilc-peek-") as temporary:
        prepared = prepare(plan, store, Path(temporary), options.phase)
        return sample(prepared, store, Asked(options.batch, options.row, options.id, options.rows))


def _print(facts: dict[str, Any]) -> None:
    from ..peek.tables import print_facts

    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = drawing_console(width=None if known else PLAIN_WIDTH)
    if facts["runs"] > 1:
        facts["notes"].append(f"this is one of {facts['runs']} runs; --only NAME chooses another")
    print_facts(facts, console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="distilc peek", description=__doc__)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--phase", type=int, default=1)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--batch", type=int)
    which.add_argument("--row", type=int)
    which.add_argument("--id")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--format", choices=["text", "json"], default="text")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--workspace", type=Path)
    return parser
