"""The options of every command that takes a spec, and the site that they make."""

from __future__ import annotations

import re
from collections.abc import Callable
from os.path import expanduser
from pathlib import Path
from typing import Any

import click

from ..resolve.site import Site, SiteOptions, load_site
from .output import leave

FOLDER = click.Path(path_type=Path)
SITE_OPTIONS = ("site", "workspace", "models", "offline", "devices", "paths")


def _paths(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    paths = {}
    for value in values:
        name, equals, folder = value.partition("=")
        if not equals or not folder or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise click.BadParameter(f"{value!r} is not NAME=FOLDER", ctx, parameter)
        paths[name] = Path(expanduser(folder))
    return paths


def _overrides(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value!r} is not PATH=VALUE", ctx, parameter)
    return values


WORKSPACE = click.option("--workspace", type=FOLDER, metavar="DIR", help="Where results are kept. Default: .distilc")
SITE = click.option("--site", type=FOLDER, metavar="FILE", help="A site file: devices, paths, tracking server.")
SPEC_OPTIONS = (
    click.option(
        "--set", "overrides", metavar="PATH=VALUE", multiple=True, callback=_overrides,
        help="Set a value of the spec, for example stopping.max_epochs=3. Repeatable.",
    ),
    SITE,
    WORKSPACE,
    click.option(
        "--models", metavar="DIR", multiple=True, type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="A folder of models laid out as on the hub, looked in first. Repeatable.",
    ),
    click.option("--offline", is_flag=True, help="Never ask the network."),
    click.option("--devices", type=click.IntRange(1, 65536), metavar="N", help="Processes, one a device."),
    click.option(
        "--path", "paths", metavar="NAME=FOLDER", multiple=True, callback=_paths,
        help="What ${paths.NAME} means in the spec. Repeatable.",
    ),
)  # fmt: skip
ONLY = click.option(
    "--only", metavar="PATTERN", multiple=True,
    help="Only the runs of this name (`*` stands for anything). Repeatable.",
)  # fmt: skip


def spec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options of every command that takes a spec."""
    for option in reversed(SPEC_OPTIONS):
        command = option(command)
    return command


def site_of(**options: Any) -> Site:
    """The site that these options make (those that are missing: as if not given); ends with exit code 1 and its
    diagnostics when it is wrong."""
    given = {name: options[name] for name in SITE_OPTIONS if name in options}
    loaded = load_site(SiteOptions(**given))
    if loaded.site is None:
        leave(loaded.diagnostics, loaded.texts)
    return loaded.site
