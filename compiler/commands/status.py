"""`distilc status`: handed over to the runtime."""

from __future__ import annotations

from pathlib import Path

import click

from .hand_over import hand_over
from .options import SITE, WORKSPACE, site_of


@click.command()
@WORKSPACE
@SITE
def status(workspace: Path | None, site: Path | None) -> None:
    """What ran in the workspace, what is running, and what is left.

    \b
    Example:  distilc status
              distilc status --workspace /scratch/me/distilc

    Exit codes: 0 fine, 1 the workspace cannot be read, 2 wrong usage.
    """
    hand_over(["status", "--workspace", str(site_of(workspace=workspace, site=site).workspace)])
