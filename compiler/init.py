"""`distilc init`: a starter spec that checks clean, with comments that teach."""

from __future__ import annotations

import shlex
from pathlib import Path

from .trees.structure import FOLDER

SPECS = FOLDER.parent / "specs" / "recipes"
RECIPES = ("sft", "kd", "pseudo-labels", "translation", "nli", "distilbert")
SCHEMA_LINE = "# yaml-language-server: $schema="


def write_recipe(recipe: str, file: Path) -> None:
    """Write the recipe to a file that is not there yet. The schema that editors read becomes the installed
    one, and the commands in its comments name the file. Raises OSError."""
    name = shlex.quote(str(file)) if str(file).isprintable() else "spec.yaml"
    lines = (SPECS / f"{recipe}.yaml").read_text("utf-8").replace("spec.yaml", name).split("\n")
    if lines[0].startswith(SCHEMA_LINE):
        lines[0] = f"{SCHEMA_LINE}{FOLDER / 'experiment.schema.json'}"
    with file.open("x", encoding="utf-8") as stream:
        stream.write("\n".join(lines))
