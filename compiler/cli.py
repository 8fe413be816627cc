"""The `distilc` command. What runs models is handed over to `python -m distilc.runtime`.

Exit codes: 0 fine, 1 a diagnosis, 2 wrong usage, 3 a declared goal was missed, 75 try again, 130 interrupted.
Heavy modules are imported in the commands that need them: `check` has to be quick.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from .diagnostics import Diagnostic, Places, Reporter, did_you_mean, render_github, render_json, render_text
from .pipeline import Compiled, compile_spec, lower_runs
from .site import Site, SiteOptions, load_site

COMMANDS = ("init", "check", "explain", "compile", "run", "status", "doctor", "schema")


class Commands(click.Group):
    """Lists its commands in the order in which people need them, and knows what a misspelt one means."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None:
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
    distilc run spec.yaml        do it, and print the result table

    \b
    Exit codes: 0 fine, 1 the spec is wrong or the run failed (with a diagnosis), 2 wrong usage,
    3 a declared goal was missed, 75 try again, 130 interrupted (the same command resumes).
    """


# --- options of every command that takes a spec ----------------------------------------------------


def _paths(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    paths = {}
    for value in values:
        name, equals, folder = value.partition("=")
        if not equals or not folder or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise click.BadParameter(f"{value!r} is not NAME=FOLDER", ctx, parameter)
        paths[name] = Path(folder).expanduser()
    return paths


def _overrides(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value!r} is not PATH=VALUE", ctx, parameter)
    return values


FOLDER = click.Path(path_type=Path)
MOST_BYTES_READ_BEFORE = 64 << 20  # `run` reads data files up to this size before it starts anything
SPEC_OPTIONS = (
    click.option(
        "--set", "overrides", metavar="PATH=VALUE", multiple=True, callback=_overrides,
        help="Set a value of the spec, for example stopping.max_epochs=3. Repeatable.",
    ),
    click.option("--site", type=FOLDER, metavar="FILE", help="A site file: devices, paths, tracking server."),
    click.option("--workspace", type=FOLDER, metavar="DIR", help="Where results are kept. Default: .distilc"),
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


def spec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(SPEC_OPTIONS):
        command = option(command)
    return command


def _load_site(options: dict[str, Any]) -> Site:
    """The site; ends with exit code 1 and its diagnostics when it is wrong."""
    loaded = load_site(
        SiteOptions(
            site=options["site"],
            workspace=options["workspace"],
            models=options["models"],
            offline=options["offline"],
            devices=options["devices"],
            paths=options["paths"],
        )
    )
    if loaded.site is None:
        _show(loaded.diagnostics, loaded.texts)
        sys.exit(1)
    return loaded.site


def _color(stream: Any) -> bool:
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def _show(diagnostics: list[Diagnostic], texts: Any) -> None:
    """Diagnostics on standard error, where a command's own output does not mix with them."""
    sys.stderr.write(render_text(diagnostics, texts, _color(sys.stderr)))


def _plans(
    spec: Path, options: dict[str, Any], site: Site, *, with_data: bool = False
) -> tuple[list[dict[str, Any]], Compiled]:
    """The plans of a spec with their keys; ends with exit code 1 and the diagnostics when it is wrong.
    `with_data`: small data files are read, too, before processes are started for them."""
    compiled = compile_spec(spec, options["overrides"], site)
    plans: list[dict[str, Any]] = []
    if compiled.runs:
        plans, compiled = lower_runs(compiled, site, fingerprints=not compiled.failed)
    if with_data and compiled.runs and not compiled.failed:
        from .data import check_data, num_bytes

        if all(num_bytes(run.experiment) <= MOST_BYTES_READ_BEFORE for run in compiled.runs):
            for run in compiled.runs:
                check_data(run.experiment, run.reporter)
            compiled = Compiled(compiled.runs, compiled.runs[0].reporter.diagnostics, compiled.texts)
    _show(compiled.diagnostics, compiled.texts)
    if compiled.failed:
        sys.exit(1)
    return plans, compiled


# --- commands --------------------------------------------------------------------------------------


@distilc.command()
@click.option("--recipe", metavar="NAME", default="sft", show_default=True, help="Which spec to start from.")
@click.argument("file", type=FOLDER)
def init(recipe: str, file: Path) -> None:
    """Write a commented starter spec to FILE.

    \b
    Example:  distilc init --recipe translation spec.yaml
    Recipes:  sft          summarization, shrink and fine-tune; runs as it is
              translation  the same for translation, on your own files

    Exit codes: 0 written, 1 the file cannot be written, 2 no such recipe, or FILE is there already.
    """
    from .init import RECIPES, write_recipe

    if recipe not in RECIPES:
        near = did_you_mean(recipe, RECIPES)
        raise click.BadParameter(
            f"there is no recipe {recipe!r}; there is {', '.join(RECIPES)}"
            + (f" (did you mean {near}?)" if near else ""),
            param_hint="--recipe",
        )
    if file.exists():
        raise click.UsageError(f"{file} is there already; it is not overwritten")
    try:
        write_recipe(recipe, file)
    except OSError as error:
        click.echo(f"error: cannot write {file}: {error.strerror}", err=True)
        sys.exit(1)
    click.echo(f"wrote {file}; next: distilc check {file}")


@distilc.command()
@click.argument("specs", nargs=-1, required=True, type=FOLDER, metavar="SPEC...")
@click.option("--format", "form", type=click.Choice(["text", "json", "github"]), default="text", show_default=True)
@click.option("--data", "with_data", is_flag=True, help="Also open the local data files and read them.")
@spec_options
def check(specs: tuple[Path, ...], form: str, with_data: bool, **options: Any) -> None:
    """Everything that is wrong in the SPECs, all at once. Nothing is run, nothing is written.

    \b
    Example:  distilc check specs/*.yaml
              distilc check --data --path multi30k=~/data/multi30k spec.yaml

    With --data, the files are read too: columns, empty rows, encoding, double ids, lengths.

    Exit codes: 0 nothing wrong (there may be warnings), 1 something is, 2 wrong usage.
    """
    site = _load_site(options)
    found: dict[Diagnostic, None] = {}
    texts: dict[str, str] = {}
    for spec in specs:
        compiled = compile_spec(spec, options["overrides"], site)
        if compiled.runs:
            _, compiled = lower_runs(compiled, site, fingerprints=False)
        if with_data and compiled.runs:
            from .data import check_data

            for run in compiled.runs:
                check_data(run.experiment, run.reporter)
            compiled = Compiled(compiled.runs, compiled.runs[0].reporter.diagnostics, compiled.texts)
        found.update(dict.fromkeys(compiled.diagnostics))
        texts.update(compiled.texts)
    diagnostics = list(found)
    errors = sum(diagnostic.severity == "error" for diagnostic in diagnostics)
    if form == "json":
        sys.stdout.write(render_json(diagnostics))
    elif form == "github":
        sys.stdout.write(render_github(diagnostics))
    else:
        sys.stdout.write(render_text(diagnostics, texts, _color(sys.stdout)))
        sys.stdout.write(f"{_counted(specs, errors, len(diagnostics) - errors)}\n")
    sys.exit(1 if errors else 0)


def _counted(specs: tuple[Path, ...], errors: int, warnings: int) -> str:
    def number(count: int, word: str) -> str:
        return f"{count} {word}{'' if count == 1 else 's'}"

    files = f"{specs[0]}" if len(specs) == 1 else number(len(specs), "file")
    parts = [number(errors, "error")] if errors else []
    parts += [number(warnings, "warning")] if warnings else []
    return f"{files}: {', '.join(parts) or 'ok'}"


@distilc.command()
@click.argument("subject", metavar="SPEC|CODE")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--resolved", is_flag=True, help="The spec with every default filled in, as YAML.")
@spec_options
def explain(subject: str, as_json: bool, resolved: bool, **options: Any) -> None:
    """What a SPEC will do, or what a diagnostic CODE means. Nothing is run.

    \b
    Example:  distilc explain spec.yaml
              distilc explain --resolved spec.yaml
              distilc explain E206

    For a spec: models and parameters, which layers are copied and which are supervised, the stages with
    their keys and what the store has of them already, memory and time.

    Exit codes: 0 fine, 1 the spec is wrong, 2 wrong usage or no such code.
    """
    if re.fullmatch(r"[A-Z]\d{3}", subject):
        click.echo(_explain_code(subject), nl=False)
        return
    site = _load_site(options)
    if resolved:
        from .resolved import resolved_yaml

        compiled = compile_spec(Path(subject), options["overrides"], site)
        _show(compiled.diagnostics, compiled.texts)
        if compiled.failed:
            sys.exit(1)
        click.echo("---\n".join(resolved_yaml(run.tree) for run in compiled.runs), nl=False)
        return
    from .explain import explain_json, explain_text

    plans, compiled = _plans(Path(subject), options, site)
    if as_json:
        click.echo(json.dumps(explain_json(plans), indent=2))
    else:
        pairs = zip(plans, compiled.runs, strict=True)
        click.echo("\n".join(explain_text(plan, run.experiment) for plan, run in pairs))


def _explain_code(code: str) -> str:
    from .codes import CODES

    if code not in CODES:
        near = did_you_mean(code, CODES)
        raise click.UsageError(f"there is no code {code}" + (f" (did you mean {near}?)" if near else ""))
    entry = CODES[code]

    def example(title: str, text: str) -> str:
        return f"\n{title}\n" + "".join(f"    {line}\n" for line in text.rstrip("\n").split("\n"))

    return (
        f"{code}: {entry.title}\n\n{entry.meaning}\n"
        + example("Gives it:", entry.failing)
        + example("Mended:", entry.mended)
    )


@distilc.command("compile")
@click.argument("spec", type=FOLDER)
@click.option("-o", "--output", type=FOLDER, metavar="DIR", help="Default: plans/ in the workspace.")
@click.option("--locked", is_flag=True, help="Fail when anything differs from the lock.yaml that is there.")
@spec_options
def compile_command(spec: Path, output: Path | None, locked: bool, **options: Any) -> None:
    """Write the plan of SPEC: one folder DIR/NAME for each run.

    \b
    Example:  distilc compile spec.yaml -o plans
              distilc run plans/my-run

    A plan folder holds plan.json (everything the run needs), deepspeed.<stage>.json, launch.sh (the commands
    by hand) and lock.yaml (versions and fingerprints). It runs where it was compiled for: the devices
    are in it.

    Exit codes: 0 written, 1 the spec is wrong or (--locked) something moved, 2 wrong usage.
    """
    site = _load_site(options)
    plans, compiled = _plans(spec, options, site)
    folder = output or site.workspace / "plans"
    if locked:
        _hold_to_locks(plans, compiled, folder)
    for written in _emit(plans, folder):
        click.echo(written)


def _hold_to_locks(plans: list[dict[str, Any]], compiled: Compiled, folder: Path) -> None:
    """End with exit code 1 when something differs from the locks of an earlier compilation."""
    from .lock import check_locked

    reporter = Reporter(Places(), file=compiled.runs[0].spec_file)
    for plan in plans:
        check_locked(plan, folder / plan["name"] / "lock.yaml", reporter)
    if reporter.failed:
        _show(reporter.diagnostics, compiled.texts)
        sys.exit(1)


def _emit(plans: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Write the plans below a folder; ends with exit code 1 when that cannot be done."""
    from .emit import emit

    try:
        return [emit(plan, folder / plan["name"]) for plan in plans]
    except OSError as error:
        click.echo(f"error: cannot write {error.filename or folder}: {error.strerror}", err=True)
        click.echo("hint: choose another folder with --workspace DIR", err=True)
        sys.exit(1)


@distilc.command()
@click.argument("subjects", nargs=-1, required=True, type=FOLDER, metavar="SPEC|PLAN...")
@click.option("--only", metavar="PATTERN", help="Only the runs whose name matches.")
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option("--redo", metavar="STAGE", multiple=True, help="Compute this stage again. Repeatable.")
@click.option("--in-process", is_flag=True, help="One process, no launcher: for a debugger.")
@spec_options
def run(
    subjects: tuple[Path, ...], only: str | None, until: str | None, redo: tuple[str, ...], in_process: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Run SPECs or compiled PLANs: every stage that is not in the store yet, then the result table.

    \b
    Example:  distilc run spec.yaml --devices 2
              distilc run .distilc/plans/my-run
              distilc run spec.yaml --redo evaluate-student

    Interrupt it, or let it be killed, and run the same command again: it goes on where it was.

    \b
    Exit codes: 0 done, 1 the spec is wrong or the run failed (with a diagnosis), 2 wrong usage,
    75 try again (a process was lost), 130 interrupted (the same command resumes).
    """
    compiled_before = [subject for subject in subjects if is_plan(subject)]
    for name in ("devices", "overrides", "site", "models", "paths"):
        if compiled_before and options[name]:
            word = {"overrides": "--set", "paths": "--path"}.get(name, f"--{name}")
            raise click.UsageError(
                f"{word} does not go with the plan {compiled_before[0]}: a plan is compiled for its devices "
                "and data. Compile the spec again with it."
            )
    folders: list[Path] = []
    if len(compiled_before) < len(subjects):
        site = _load_site(options)
    for subject in subjects:
        if subject in compiled_before:
            folders.append(subject)
            continue
        plans, _ = _plans(subject, options, site, with_data=True)
        written = _emit(plans, site.workspace / "plans")
        if twice := [folder for folder in written if folder in folders]:
            raise click.UsageError(f"two runs are called {twice[0].name}: give them different names")
        folders += written
    arguments = ["run", *(str(folder) for folder in folders)]
    arguments += ["--only", only] if only else []
    arguments += ["--until", until] if until else []
    for stage in redo:
        arguments += ["--redo", stage]
    arguments += ["--in-process"] if in_process else []
    if compiled_before and options["workspace"]:  # the plan of a spec has it already
        arguments += ["--workspace", str(options["workspace"])]
    _hand_over(arguments)


def is_plan(subject: Path) -> bool:
    """Is this a plan (its folder, or its plan.json), not a spec?"""
    return subject.suffix == ".json" or subject.is_dir()


@distilc.command()
@click.option("--workspace", type=FOLDER, metavar="DIR", help="Default: that of the site, .distilc")
@click.option("--site", type=FOLDER, metavar="FILE", help="A site file.")
def status(workspace: Path | None, site: Path | None) -> None:
    """What ran in the workspace, what is running, and what is left.

    \b
    Example:  distilc status

    Exit codes: 0 fine, 1 the workspace cannot be read, 2 wrong usage.
    """
    _hand_over(["status", "--workspace", str(_workspace(workspace, site))])


@distilc.command()
@click.option("--workspace", type=FOLDER, metavar="DIR", help="Default: that of the site, .distilc")
@click.option("--site", type=FOLDER, metavar="FILE", help="A site file.")
def doctor(workspace: Path | None, site: Path | None) -> None:
    """Is this machine ready? torch, accelerator, DeepSpeed, disk, tracking server.

    \b
    Example:  distilc doctor

    Exit codes: 0 ready, 1 something is missing (it says what to do), 2 wrong usage.
    """
    _hand_over(["doctor", "--workspace", str(_workspace(workspace, site))])


def _workspace(workspace: Path | None, site: Path | None) -> Path:
    none: dict[str, Any] = {"models": (), "offline": False, "devices": None, "paths": {}}
    return _load_site({"site": site, "workspace": workspace, **none}).workspace


@distilc.command()
@click.option("--site", "of_site", is_flag=True, help="The schema of a site file.")
def schema(of_site: bool) -> None:
    """Print the JSON Schema of a spec: every key with its meaning, default and an example.

    \b
    Example:  distilc schema > experiment.schema.json
              # first line of a spec, for editors:
              # yaml-language-server: $schema=experiment.schema.json

    Exit codes: 0 fine, 2 wrong usage.
    """
    from .structure import FOLDER as schemas

    name = "site" if of_site else "experiment"
    click.echo((schemas / f"{name}.schema.json").read_text("utf-8"), nl=False)


def _hand_over(arguments: list[str]) -> NoReturn:
    """Become the runtime. The two halves share no code; they meet in plan.json."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "distilc.runtime", *arguments])


def main() -> NoReturn:
    """The entry point. Returns through sys.exit, always."""
    try:
        distilc.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:  # `distilc schema | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)
