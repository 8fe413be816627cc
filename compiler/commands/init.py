"""`distilc init`: a starter spec."""

from __future__ import annotations

import shlex
import sys
from os.path import exists, isdir
from pathlib import Path

import click

from ..diagnostics.diagnostic import did_you_mean
from ..extensions.schema_files import FOLDER as SCHEMAS
from .options import FOLDER
from .output import tell

SPECS = SCHEMAS.parent / "specs" / "recipes"
RECIPES = ("sft", "kd", "pseudo-labels", "translation", "nli", "distilbert")
SCHEMA_LINE = "# yaml-language-server: $schema="


@click.command()
@click.option("--recipe", metavar="NAME", default="sft", show_default=True, help="Which spec to start from.")
@click.argument("file", type=FOLDER)
def init(recipe: str, file: Path) -> None:
    """Write a commented starter spec to FILE.

    \b
    Example:  distilc init --recipe translation spec.yaml
    Recipes:  sft            summarization, shrink and fine-tune; runs as it is
              kd             the same by knowledge distillation: logits and hidden states
              pseudo-labels  the same on targets that the teacher writes
              translation    shrink and fine-tune for translation, on your own files
              nli            the same for pairs of sentences: a smaller bart-large-mnli
              distilbert     half of a BERT by the triple loss, on your own texts

    Exit codes: 0 written, 1 the file cannot be written, 2 no such recipe, or FILE is there already.
    """
    if recipe not in RECIPES:
        near = did_you_mean(recipe, RECIPES)
        raise click.BadParameter(
            f"there is no recipe {recipe!r}; there is {', '.join(RECIPES)}"
            + (f" (did you mean {near}?)" if near else ""),
            param_hint="--recipe",
        )
    if isdir(file):
        raise click.UsageError(f"{file} is a folder; name a file, for example {shlex.quote(str(file / 'spec.yaml'))}")
    if exists(file):
        raise click.UsageError(f"{file} is there already; it is not overwritten")
    try:
        write_recipe(recipe, file)
    except OSError as error:
        tell(f"error: cannot write {file}: {error.strerror}\n", err=True)
        sys.exit(1)
    tell(f"wrote {file}; next: distilc check {shlex.quote(str(file))}\n")


def write_recipe(recipe: str, file: Path) -> None:
    """Write the recipe to a file that is not there yet. The schema that editors read becomes the installed
    one, and the commands in its comments name the file. Raises OSError."""
    name = shlex.quote(str(file)) if str(file).isprintable() else "spec.yaml"
    lines = (SPECS / f"{recipe}.yaml").read_text("utf-8").replace("spec.yaml", name).split("\n")
    if lines[0].startswith(SCHEMA_LINE):
        lines[0] = f"{SCHEMA_LINE}{SCHEMAS / 'experiment.schema.json'}"
    with file.open("x", encoding="utf-8") as stream:
        stream.write("\n".join(lines))
