"""`distilc schema`: the language, as a JSON Schema."""

from __future__ import annotations

import click

from .output import tell


@click.command(short_help="Print the JSON Schema of a spec or of a site.")
@click.option("--site", "of_site", is_flag=True, help="The schema of a site file.")
def schema(of_site: bool) -> None:
    """Print the JSON Schema of a spec: every key with its meaning, default and an example. What installed
    packages add to the language is in it.

    \b
    Example:  distilc schema > experiment.schema.json
              # first line of a spec, for editors:
              # yaml-language-server: $schema=experiment.schema.json

    Exit codes: 0 fine, 2 wrong usage.
    """
    from ..spec.structure import schema_text

    tell(schema_text("site" if of_site else "experiment"))
