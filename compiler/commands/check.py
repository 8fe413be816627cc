"""`distilc check`: everything that is wrong, at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..diagnostics.diagnostic import Diagnostic, render_github, render_json, render_text
from ..pipeline import compile_spec, lower_runs, read_data
from ..spec.compiled import told_once
from .options import FOLDER, site_of, spec_options
from .output import has_color, tell


@click.command()
@click.argument("specs", nargs=-1, required=True, type=FOLDER, metavar="SPEC...")
@click.option("--format", "form", type=click.Choice(["text", "json", "github"]), default="text", show_default=True)
@click.option("--data", "with_data", is_flag=True, help="Also open the local data files and read them.")
@spec_options
def check(specs: tuple[Path, ...], form: str, with_data: bool, overrides: tuple[str, ...], **options: Any) -> None:
    """Everything that is wrong in the SPECs, all at once. Nothing is run, nothing is written.

    \b
    Example:  distilc check specs/*.yaml
              distilc check --data --path multi30k=~/data/multi30k spec.yaml

    With --data, the files are read too: columns, empty rows, encoding, double ids, lengths, and what the tokenizer of
    a teacher that is here makes of the first rows.

    Exit codes: 0 nothing wrong (there may be warnings), 1 something is, 2 wrong usage.
    """
    site = site_of(**options)
    found: dict[Diagnostic, None] = {}
    texts: dict[str, str] = {}
    for spec in specs:
        compiled = compile_spec(spec, overrides, site)
        if compiled.runs:
            _, compiled = lower_runs(compiled, site, fingerprints=False)
        if with_data and compiled.runs:
            compiled = read_data(compiled, site=site)
        found.update(dict.fromkeys(compiled.diagnostics))
        texts.update(compiled.texts)
    diagnostics = told_once(found)
    errors = sum(diagnostic.severity == "error" for diagnostic in diagnostics)
    if form == "json":
        tell(render_json(diagnostics))
    elif form == "github":
        tell(render_github(diagnostics))
    else:
        color = has_color(sys.stdout)
        tell(render_text(diagnostics, texts, color), color=color)
        tell(f"{_counted(specs, errors, len(diagnostics) - errors)}\n")
    sys.exit(1 if errors else 0)


def _counted(specs: tuple[Path, ...], errors: int, warnings: int) -> str:
    def number(count: int, word: str) -> str:
        return f"{count} {word}{'' if count == 1 else 's'}"

    files = f"{specs[0]}" if len(specs) == 1 else number(len(specs), "file")
    parts = [number(errors, "error")] if errors else []
    parts += [number(warnings, "warning")] if warnings else []
    return f"{files}: {', '.join(parts) or 'ok'}"
