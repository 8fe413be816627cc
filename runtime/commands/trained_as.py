"""How a student was trained to read and to write: `trained_as.json` in its folder, or the store around it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..execution.store import MANIFEST
from ..failure import Failure
from ..files.regular_file import open_regular
from ..plan.binding import as_written, bind
from ..plan.plan import Plan
from ..plan.settings import GenerationSettings

RUNS = "runs"
STUDENT = "student"  # the model's folder in the folder of a run
RECORD = "trained_as.json"


@dataclass(frozen=True, kw_only=True)
class TrainedAs:
    """`column` is that of the sources, `pair_column` that of the second texts of pairs; `generation`: how the run
    evaluated its student. None: not known. `found_in`: the file that said so."""

    prefix: str
    source_language: str | None
    target_language: str | None
    column: str | None
    max_source_tokens: int | None
    max_target_tokens: int | None
    generation: GenerationSettings | None
    precision: str | None
    pair_column: str | None = None
    found_in: str = ""


def record_text(plan: Plan) -> str:
    """What `trained_as.json` holds, in the folder of the student of a plan."""
    data = plan.stage("data").settings
    evaluated = next((stage.settings for stage in plan.stages if stage.id == "evaluate-student"), None)
    known = TrainedAs(
        prefix=data.prefix,
        source_language=data.source_language,
        target_language=data.target_language,
        column=data.columns.source,
        max_source_tokens=data.max_source_tokens,
        max_target_tokens=data.max_target_tokens,
        generation=None if evaluated is None else evaluated.generation,
        precision=None if evaluated is None else evaluated.precision,
        pair_column=data.columns.hypothesis,
    )
    return json.dumps(as_written(known), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def find_student(name: str, workspace: Path) -> Path:
    """The model's folder that a path or the name of a run of the workspace means.

    A run may be named without the end of its key where there is one of that name. Raises `Failure` R366: there is
    no such model, or several.
    """
    folder = Path(name)
    if not folder.is_dir():
        runs = workspace / RUNS
        found = sorted(path for path in runs.glob("*") if _is_called(path.name, name))
        if len(found) > 1:
            raise Failure("R366", f"several runs are called {name}: {', '.join(path.name for path in found)}",
                          "name one of them whole")  # fmt: skip
        if not found:
            there = ", ".join(sorted(path.parent.name for path in runs.glob(f"*/{STUDENT}")))
            raise Failure(
                "R366",
                f"there is no model folder and no run {name}",
                f"the finished runs of {workspace} are {there}" if there else f"no run of {workspace} is finished; "
                "--workspace names another",
            )
        folder = found[0]
    inside = folder / STUDENT
    if not (folder / "config.json").is_file() and inside.is_dir():
        folder = inside
    if not (folder / "config.json").is_file() and not (folder / "reference.json").is_file():
        raise Failure("R366", f"no model in {folder}: it has no config.json",
                      "name the folder of a model, of a run, or a run that has come to its end")  # fmt: skip
    return folder


def trained_as(folder: Path) -> TrainedAs | None:
    """What is known of the model in a folder; None: nothing is there that says it."""
    for look in (_by_record, _by_store):
        if (found := look(folder)) is not None:
            return found
    return None


def _is_called(folder: str, name: str) -> bool:
    return folder == name or re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{8}}", folder) is not None


def _by_record(folder: Path) -> TrainedAs | None:
    """Of the student of a run, also where it was copied to."""
    try:
        with open_regular(folder / RECORD) as file:
            found: TrainedAs = bind(TrainedAs, json.loads(file.read().decode("utf-8")), RECORD)
    except (OSError, ValueError, RecursionError, Failure):  # none, or of another version
        return None
    return replace(found, found_in=str(folder / RECORD))


def _by_store(folder: Path) -> TrainedAs | None:
    """Of an artifact: the manifests of what it was made from say how the data were read."""

    def settings_of(key: str, kind: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any] | None:
        manifest = _manifest(folder.parent / key)
        if manifest is None:
            return None
        if kind(manifest):
            found: Mapping[str, Any] | None = manifest.get("settings")  # earlier versions did not write it
            return found
        below = manifest.get("needs", {}).get("data")
        return settings_of(below, kind) if below else None

    data = settings_of(folder.name, lambda manifest: manifest.get("kind") == "data")
    if data is None:
        return None
    return TrainedAs(
        prefix=data["prefix"],
        source_language=data["source_language"],
        target_language=data["target_language"],
        column=data["columns"]["source"],
        max_source_tokens=data["max_source_tokens"],
        max_target_tokens=data.get("max_target_tokens"),
        generation=None,
        precision=None,
        pair_column=data["columns"].get("hypothesis"),
        found_in=str(folder / MANIFEST),
    )


def _manifest(folder: Path) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    known = isinstance(found, dict) and all(isinstance(found.get(name, {}), dict) for name in ("settings", "needs"))
    return found if known else None
