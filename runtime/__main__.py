"""`python -m distilc.runtime VERB ...`: the verbs that the `distilc` command hands over, and the worker.

The words here are for programs (the command line, the launcher); people type `distilc`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

# The verbs that read their own options: `main(argv)` of `commands/NAME.py`.
VERBS = ("status", "doctor", "verify", "peek", "predict", "evaluate")


def main(argv: list[str]) -> int:
    """Dispatch to the verb. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m distilc.runtime", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run compiled plans")
    run.add_argument("plans", nargs="+", type=Path)
    run.add_argument("--until", help="stop after this stage")
    run.add_argument("--redo", action="append", default=[], help="compute this stage again (repeatable)")
    run.add_argument("--in-process", action="store_true", help="one process, no launcher")
    run.add_argument("--workspace", type=Path, help="instead of the plan's")
    worker = verbs.add_parser("worker", help="one process of a launch")
    worker.add_argument("plan", type=Path)
    worker.add_argument("--stages", required=True)
    worker.add_argument("--control", required=True, type=Path)
    for name in VERBS:
        verbs.add_parser(name, add_help=False)
    options, rest = parser.parse_known_args(argv)
    if options.verb in VERBS:
        verb: Callable[[Sequence[str]], int] = import_module(f".commands.{options.verb}", __package__).main
        return verb(rest)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.verb == "worker":
        from .execution.control import Control
        from .execution.worker import work
        from .plan.load import load_plan

        return work(load_plan(options.plan), options.stages.split(","), Control(options.control))
    from .commands.run import Options
    from .commands.run import main as drive

    return drive(options.plans, Options(options.until, options.redo, options.in_process, options.workspace))


if __name__ == "__main__":
    if "worker" in sys.argv[1:2]:  # it writes into a log of its own
        sys.exit(main(sys.argv[1:]))
    from .messages.outlet import exit_code, open_outlets

    open_outlets()
    sys.exit(exit_code(main(sys.argv[1:]), is_product=sys.argv[1:2] != ["run"]))
