"""`distilc run`: specs compiled, and their plans handed over to the runtime in one go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..diagnostics.diagnostic import Places, Reporter
from ..pipeline import compile_spec
from ..plan.plan_folders import find_plans, is_plan, read_plan
from .hand_over import give_credentials, hand_over
from .options import FOLDER, ONLY, site_of, spec_options
from .output import leave
from .plans import choose_of_all, lowered, write_plans

OPTIONS_OF_A_SPEC = {
    "devices": "--devices", "overrides": "--set", "site": "--site", "models": "--models", "paths": "--path",
}  # fmt: skip


@click.command(short_help="Run SPECs or PLANs, and print the result table.")
@click.argument("subjects", nargs=-1, required=True, type=FOLDER, metavar="SPEC|PLAN...")
@ONLY
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option("--redo", metavar="STAGE", multiple=True, help="Compute this stage again. Repeatable.")
@click.option("--in-process", is_flag=True, help="One process, no launcher: for a debugger.")
@spec_options
def run(
    subjects: tuple[Path, ...], only: tuple[str, ...], until: str | None, redo: tuple[str, ...], in_process: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Run SPECs or compiled PLANs: every stage that is not in the store yet, then the result table.

    \b
    Example:  distilc run spec.yaml --devices 2
              distilc run spec.yaml --only kd --only 'pl-*'
              distilc run .distilc/plans/my-run
              distilc run spec.yaml --redo evaluate-student

    The runs of a spec (its variants, matrix and seeds) go one after the other; what several of them need is
    computed once. Interrupt it, or let it be killed, and run the same command again: it goes on where it was.

    \b
    Exit codes: 0 done, 1 the spec is wrong or a run failed (with a diagnosis; the others are still run),
    2 wrong usage, 75 try again (a process was lost), 130 interrupted (the same command resumes).
    """
    compiled_before = [subject for subject in subjects if is_plan(subject)]
    for name, word in OPTIONS_OF_A_SPEC.items():
        if compiled_before and options[name]:
            raise click.UsageError(
                f"{word} does not go with the plan {compiled_before[0]}: a plan is compiled for its devices "
                "and data. Compile the spec again with it."
            )
    folders = folders_to_run(subjects, only, options)
    arguments = ["run", *map(str, folders)]
    arguments += ["--until", until] if until else []
    for stage in redo:
        arguments += ["--redo", stage]
    arguments += ["--in-process"] if in_process else []
    if compiled_before and options["workspace"]:  # the plan of a spec has it already
        arguments += ["--workspace", str(options["workspace"])]
    hand_over(arguments)


def folders_to_run(subjects: Sequence[Path], only: tuple[str, ...], options: dict[str, Any]) -> list[Path]:
    """The plans to be run, in the order of the subjects: those that are there, and those of the specs, written
    now, when all of them are right."""
    there = {subject: find_plans(subject) for subject in subjects if is_plan(subject)}
    specs = [subject for subject in subjects if subject not in there]
    found = [folder for folders in there.values() for folder in folders]
    site = site_of(**options) if specs else None
    compiled = [compile_spec(spec, options["overrides"], site) for spec in specs] if site is not None else []
    compiled, kept = choose_of_all(compiled, _names(found) if only else [folder.name for folder in found], only)
    plans = [lowered(one, site, with_data=True) for one in compiled] if site is not None else []
    if (twice := _twice([plan.name for some in plans for plan in some])) is not None:
        raise click.UsageError(f"two runs have the name {twice}: give them different names")
    wanted = {found[i] for i in kept}
    folders: list[Path] = []
    for subject in subjects:
        if subject in there:
            folders += [folder for folder in there[subject] if folder in wanted]
        elif site is not None:
            folders += write_plans(plans.pop(0), site.workspace / "plans")
    give_credentials(site)
    if (again := _twice([str(folder.absolute()) for folder in folders])) is not None:
        raise click.UsageError(f"the plan {again} is given twice: name either the plan or its spec")
    return folders


def _twice(names: Sequence[str]) -> str | None:
    """The first name that is there a second time."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _names(folders: Sequence[Path]) -> list[str]:
    """The names of compiled plans; ends with exit code 1 when one cannot be read."""
    reporter = Reporter(Places())
    plans = [read_plan(folder, reporter) for folder in folders]
    if reporter.failed:
        leave(reporter.diagnostics, {})
    return [plan["name"] for plan in plans if plan is not None]
