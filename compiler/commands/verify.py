"""`distilc verify`: specs compiled, their students made, and what will be trained proved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..plan.plan_folders import is_plan
from .hand_over import hand_over
from .options import FOLDER, ONLY, spec_options
from .run import OPTIONS_OF_A_SPEC, folders_to_run


@click.command(short_help="Prove, before it is trained, that a run trains what its spec says.")
@click.argument("subjects", nargs=-1, required=True, type=FOLDER, metavar="SPEC|PLAN...")
@ONLY
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@spec_options
def verify(subjects: tuple[Path, ...], only: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Prove that the training of a SPEC or compiled PLAN is what it says, on a few rows of its data.

    \b
    Example:  distilc verify spec.yaml
              distilc verify spec.yaml --only kd --json

    The stages before the training that are not in the store are run first. Then, with the code that trains:
    a student that is its teacher has a loss of zero; logits in chunks equal whole ones; a step does not depend on
    micro-batches, ranks or padding; it changes what is trained and nothing else; copied layers are their sources;
    steps have the rate, size and update of the plan; each term equals an independent reference in float64.

    \b
    Exit codes: 0 all of it was proved, 1 it was not (with the place of the defect) or a stage failed, 2 wrong
    usage, 75 try again, 130 interrupted.
    """
    compiled_before = [subject for subject in subjects if is_plan(subject)]
    for name, word in OPTIONS_OF_A_SPEC.items():
        if compiled_before and options[name]:
            raise click.UsageError(
                f"{word} does not go with the plan {compiled_before[0]}: compile the spec again with it"
            )
    arguments = ["verify", *map(str, folders_to_run(subjects, only, options))]
    arguments += ["--json"] if as_json else []
    if compiled_before and options["workspace"]:
        arguments += ["--workspace", str(options["workspace"])]
    hand_over(arguments)
