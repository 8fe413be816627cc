"""`distilc peek`: a spec compiled, and one micro-batch of its first run shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..plan.plan_folders import is_plan
from .hand_over import hand_over
from .options import FOLDER, ONLY, spec_options
from .run import OPTIONS_OF_A_SPEC, folders_to_run


@click.command(short_help="One real batch, as the model sees it.")
@click.argument("subject", type=FOLDER, metavar="SPEC|PLAN")
@ONLY
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="The Nth micro-batch of the first step.")
@click.option("--row", type=click.IntRange(min=0), metavar="N", help="The micro-batch of this training row; from 0.")
@click.option("--id", "id_", metavar="ID", help="The same by the row's id.")
@click.option("--phase", type=click.IntRange(min=1), default=1, metavar="N", help="The Nth phase of `training`.")
@click.option("--rows", type=click.IntRange(min=1), default=2, show_default=True, help="How many rows to show.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@spec_options
def peek(
    subject: Path, only: tuple[str, ...], batch: int | None, row: int | None, id_: str | None, phase: int, rows: int,
    form: str, **options: Any,
) -> None:  # fmt: skip
    """Show one real micro-batch of the training of a SPEC or compiled PLAN, as the model sees it.

    \b
    Example:  distilc peek spec.yaml
              distilc peek spec.yaml --only kd --row 17
              distilc peek spec.yaml --set data.max_target_tokens=32 --format json

    Texts with their special tokens, decoder input against label, masks, padding, how much was cut, which student
    layer looks at which teacher layer, the terms of the loss, and what teacher and student expect at the first
    positions of a target. What looks wrong is said in words at the end.

    Nothing is trained: data and models that are missing are made first, and where a teacher has yet to be trained
    or labels to be written, what there is instead is shown, and said so. Of several runs the first is shown.

    Exit codes: 0 shown, 1 the spec is wrong or something is missing, 2 wrong usage, 130 interrupted.
    """
    if sum(value is not None for value in (batch, row, id_)) > 1:
        raise click.UsageError("--batch, --row and --id each choose a batch: give one of them")
    for name, word in OPTIONS_OF_A_SPEC.items():
        if is_plan(subject) and options[name]:
            raise click.UsageError(f"{word} does not go with the plan {subject}: compile the spec again with it")
    folders = folders_to_run([subject], only, options)
    words = ["peek", str(folders[0]), f"--rows={rows}", f"--format={form}", f"--runs={len(folders)}"]
    for option, value in {"--batch": batch, "--row": row, "--id": id_}.items():
        words += [f"{option}={value}"] if value is not None else []
    words += [f"--phase={phase}"] if phase > 1 else []
    if is_plan(subject) and options["workspace"]:
        words += ["--workspace", str(options["workspace"])]
    hand_over(words)
