"""`distilc doctor`: handed over to the runtime."""

from __future__ import annotations

from pathlib import Path

import click

from .hand_over import hand_over
from .options import SITE, WORKSPACE, site_of


@click.command(short_help="Is this machine ready to run plans?")
@WORKSPACE
@SITE
def doctor(workspace: Path | None, site: Path | None) -> None:
    """Is this machine ready? torch, accelerator, DeepSpeed, disk, tracking server.

    \b
    Example:  distilc doctor

    Exit codes: 0 ready, 1 something is missing (it says what to do), 2 wrong usage.
    """
    hand_over(["doctor", "--workspace", str(site_of(workspace=workspace, site=site).workspace)])
