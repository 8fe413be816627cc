"""lock.yaml: what exactly a plan was compiled from, and what has moved since.

It holds the resolved spec, the fingerprints and commits of models and data, the keys of the stages, the
versions of the packages that compute, what is used of packages that extend distilc, and the commit of the
repository that the spec lies in. Of the runs of other specs that are named for a model, their resolved specs.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from os.path import isdir
from pathlib import Path
from typing import Any

from ..diagnostics.diagnostic import Reporter, dotted
from ..diagnostics.regular_file import open_regular
from ..extensions.extension_record import used_extensions
from ..spec.differences import Difference, differences
from ..spec.resolved import without_locations
from ..spec.yaml_text import yaml_text
from .plan import Plan, Stages

FORMAT = 1
PACKAGES = (
    "distilc", "torch", "transformers", "tokenizers", "safetensors", "sentencepiece", "datasets",
    "huggingface_hub", "deepspeed", "mlflow", "numpy", "rouge-score", "sacrebleu",
)  # fmt: skip
MOST_NAMES = 6  # runs that a message names
HEADER = """\
# What this plan was compiled from. `distilc compile --locked` compares, and refuses when any of it has moved.
"""


def make_lock(plan: Plan) -> dict[str, Any]:
    """The lock of a plan that is compiled now. Runs git, and looks at what is installed: once in a process,
    however many plans there are."""
    named = {owner: other.tree for owner, other in plan.named.items()}
    return {
        "format": FORMAT,
        "name": plan.name,
        "key": plan.key,
        "inputs": plan_inputs(plan.stages),
        "extensions": used_extensions(stage.settings for stage in plan.stages.values()),
        "stages": {id: stage.key for id, stage in plan.stages.items()},
        "packages": {name: _version(name) for name in PACKAGES},
        "spec": plan.run.tree,
        **({"named": named} if named else {}),
        "git": _git_state_now(_spec_folder(plan)),
    }


def lock_text(lock: Mapping[str, Any]) -> str:
    """A lock as YAML."""
    return HEADER + yaml_text(lock)


def check_locked(plans: Sequence[tuple[Plan, Path]], reporter: Reporter) -> None:
    """Hold plans to their locks. Reports E517 for a lock that is not there or cannot be read, and E518 once for
    everything that moved, with the runs in which it did."""
    moved: dict[str, list[str]] = {}
    for plan, lock_file in plans:
        lock = make_lock(plan)
        try:
            with open_regular(lock_file) as stream:
                text = stream.read().decode("utf-8")
            if _but_for_git(text) == _but_for_git(lock_text(lock)):
                continue  # a thousand locks are not parsed to see that nothing moved
            old = read_lock(text)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            reason = "it is damaged" if isinstance(error, UnicodeDecodeError) else reason
            reporter.error("E517", (), f"{lock_file}: {reason}", "compile once without --locked, which writes the lock")
            continue
        for difference in compare_locks(old, lock):
            moved.setdefault(difference, []).append(plan.name)
    for difference, names in moved.items():
        reporter.error(
            "E518",
            (),
            difference + _of_runs(names, len(plans)),
            "restore it, or compile without --locked to use what is there now",
        )


def _of_runs(names: Sequence[str], number: int) -> str:
    """Which of several runs."""
    if number == 1:
        return ""
    if len(names) == number:
        return f" (all {number} runs)"
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f" ({', '.join(names[:MOST_NAMES])}{more})"


def _but_for_git(text: str) -> str:
    """A lock without the state of the repository, which is there for the record and never compared."""
    return text.rpartition("\ngit:")[0]


def read_lock(text: str) -> dict[str, Any]:
    """A lock from its text. Raises ValueError when it is no lock of this format."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        lock = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, RecursionError) as error:
        raise ValueError("it is damaged") from error
    if not isinstance(lock, dict) or lock.get("format") != FORMAT:
        raise ValueError(f"it is not a lock of format {FORMAT}")
    return lock


def compare_locks(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What moved, in words, one entry for each value: of the inputs, extensions, packages and the spec. When none of
    them did, the stage keys that did all the same: distilc itself computes them otherwise now."""
    moved: list[str] = []
    for section in ("inputs", "extensions", "packages", "spec"):
        before, now = old.get(section, {}), new.get(section, {})
        if section == "spec":
            before, now = without_locations(before or {}), without_locations(now or {})
        moved += [_told(found) for found in differences(before, now, (section,))]
    specs, specs_now = old.get("named", {}), new.get("named", {})
    for owner in dict.fromkeys([*specs, *specs_now]):
        before, now = (without_locations(found.get(owner) or {}) for found in (specs, specs_now))
        moved += [_told(found) for found in differences(before, now, ("named", owner))]
    if not moved:
        moved += [_told(found) for found in differences(old.get("stages"), new.get("stages"), ("stages",))]
    return moved


def git_state(folder: Path) -> dict[str, Any]:
    """`{"commit", "dirty"}` of the repository that a folder lies in; both null outside one or without git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments],  # a program that the folder names
            capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def plan_inputs(stages: Stages) -> dict[str, Any]:
    """Everything that lies outside spec and packages: what models, data and files of labels were found to be."""
    inputs: dict[str, Any] = {}
    for id, stage in stages.items():
        settings = stage.settings
        if stage.kind == "teacher":
            kept = ("kind", "repository", "revision", "fingerprint")
            inputs[id] = {name: settings[name] for name in kept}
        elif stage.kind == "data":
            inputs[id] = {name: settings[name] for name in ("train", "validation", "test")}
        elif stage.kind == "pseudo-labels" and settings["file"] is not None:
            inputs[id] = {"fingerprint": settings["file"]["fingerprint"]}
    return inputs


def _told(found: Difference) -> str:
    return f"{dotted(found.path)} was {_shown(found.a)}, is {_shown(found.b)}"


def _shown(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:24]}...{text[-8:]}"


@cache
def _git_state_now(folder: Path) -> dict[str, Any]:
    return git_state(folder)


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _spec_folder(plan: Plan) -> Path:
    """Where the spec lies: `version` stands at the top of every one."""
    place = plan.run.reporter.place(("version",))
    folder = Path(place.file).absolute().parent
    return folder if isdir(folder) else Path.cwd()
