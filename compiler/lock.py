"""lock.yaml: what exactly a plan was compiled from, and what has moved since.

It holds the resolved spec, the fingerprints and commits of models and data, the keys of the stages, the
versions of the packages that compute, and the commit of the repository that the spec lies in.
"""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .diagnostics import Reporter

FORMAT = 1
PACKAGES = (
    "distilc", "torch", "transformers", "tokenizers", "safetensors", "sentencepiece", "datasets",
    "huggingface_hub", "deepspeed", "mlflow", "numpy", "rouge-score", "sacrebleu",
)  # fmt: skip
LOCATIONS = ("files", "path")  # where something lies says nothing about what it is; `inputs` does
HEADER = """\
# What this plan was compiled from. `distilc compile --locked` compares, and refuses when any of it has moved.
"""


def make_lock(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The lock of a plan that is compiled now. Runs git, and looks at what is installed."""
    return {
        "format": FORMAT,
        "name": plan["name"],
        "key": plan["key"],
        "inputs": _inputs(plan),
        "stages": {stage["id"]: stage["key"] for stage in plan["stages"]},
        "packages": {name: _version(name) for name in PACKAGES},
        "git": git_state(_spec_folder(plan)),
        "spec": plan["spec"],
    }


def lock_text(lock: Mapping[str, Any]) -> str:
    """A lock as YAML."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 100
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    yaml.dump(dict(lock), stream)
    return HEADER + stream.getvalue()


def check_locked(plan: Mapping[str, Any], lock_file: Path, reporter: Reporter) -> None:
    """Hold a plan to a lock. Reports E517 (no lock there, or none that can be read) and E518, once for
    everything that moved."""
    try:
        lock = read_lock(lock_file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        reporter.error("E517", (), f"{lock_file}: {reason}", "compile once without --locked, which writes the lock")
        return
    for moved in compare_locks(lock, make_lock(plan)):
        reporter.error("E518", (), moved, "put it back, or compile without --locked to take what is there now")


def read_lock(lock_file: Path) -> dict[str, Any]:
    """A lock from its file. Raises OSError, and ValueError when it is no lock of this format."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        lock = YAML(typ="safe", pure=True).load(lock_file.read_text("utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ValueError("it is damaged") from error
    if not isinstance(lock, dict) or lock.get("format") != FORMAT:
        raise ValueError(f"it is no lock of format {FORMAT}")
    return lock


def compare_locks(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What moved, in words, one entry for each value: of the inputs, the packages and the spec. When none of
    them did, the stage keys that did all the same: distilc itself computes them otherwise now."""
    moved: list[str] = []
    for section in ("inputs", "packages", "spec"):
        moved += _differences(old.get(section), new.get(section), section)
    if not moved:
        moved += _differences(old.get("stages"), new.get("stages"), "stages")
    return moved


def git_state(folder: Path) -> dict[str, Any]:
    """`{"commit", "dirty"}` of the repository that a folder lies in; both null outside one or without git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def _inputs(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that lies outside spec and packages: what models and data were found to be."""
    inputs: dict[str, Any] = {}
    for stage in plan["stages"]:
        settings = stage["settings"]
        if stage["kind"] == "teacher":
            kept = ("kind", "repository", "revision", "fingerprint")
            inputs[stage["id"]] = {name: settings[name] for name in kept}
        elif stage["kind"] == "data":
            inputs["data"] = {name: settings[name] for name in ("train", "validation", "test")}
    return inputs


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            if path.startswith("spec.") and key in LOCATIONS:
                continue
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(one, other, f"{path}[{i}]")
    elif old != new:
        yield f"{path} was {_shown(old)}, is {_shown(new)}"


def _shown(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:24]}...{text[-8:]}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _spec_folder(plan: Mapping[str, Any]) -> Path:
    """Where the spec lies: `version` stands at the top of every one."""
    place = plan["places"].get("version")
    folder = Path(place[0]).absolute().parent if place else Path.cwd()
    return folder if folder.is_dir() else Path.cwd()
