"""The `distilc` command: the group of its commands, and the entry point. Each command is a file of commands/.

Exit codes: 0 fine, 1 a diagnosis, 2 wrong usage, 3 a declared goal was missed, 75 try again, 130 interrupted.
A command is imported when it is called, and what is heavy or rare inside it: `check` has to be quick.
"""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from typing import NoReturn

import click

from .commands.outlet import exit_code, open_outlets

COMMANDS = (
    "init", "check", "explain", "compile", "verify", "peek", "run", "predict", "evaluate", "status", "diff", "doctor",
    "schema",
)  # fmt: skip


class Commands(click.Group):
    """Lists its commands in the order in which people need them, imports one when it is called, and knows what
    a misspelt one means."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f".commands.{cmd_name}", __package__), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            from .diagnostics.diagnostic import did_you_mean

            near = did_you_mean(args[0], COMMANDS)
            ctx.fail(f"no such command: {args[0]}" + (f" (did you mean {near}?)" if near else ""))
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="distilc", message="distilc %(version)s")
def distilc() -> None:
    """Distillation experiments, declared in one YAML file.

    \b
    distilc init spec.yaml       write a spec to start from
    distilc check spec.yaml      is everything right? (nothing is run)
    distilc explain spec.yaml    what will happen? (nothing is run)
    distilc verify spec.yaml     will it train what the spec says? (proved before anything is trained)
    distilc run spec.yaml        do it, and print the result table
    distilc diff a.yaml b.yaml   what differs between specs, plans or finished runs?

    \b
    Exit codes: 0 fine, 1 the spec is wrong or the run failed (with a diagnosis), 2 wrong usage,
    3 a declared goal was missed, 75 try again, 130 interrupted (the same command resumes).
    """


def main() -> NoReturn:
    """The entry point. Returns through sys.exit, always."""
    open_outlets()
    sys.exit(exit_code(_run()))


def _run() -> int:
    """The exit code of the command that was typed."""
    from .commands.output import tell

    try:
        os.getcwd()
    except OSError as error:  # removed under the shell, or not to be looked into
        tell(f"error: the current folder cannot be used: {error.strerror}\n", err=True)
        tell("hint: cd into a folder that is there\n", err=True)
        return 1
    try:
        distilc.main(standalone_mode=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except click.ClickException as error:
        message = io.StringIO()
        error.show(message)
        tell(message.getvalue(), err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    return 0
