"""What MLflow is told of a plan and its artifacts. Pure: nothing is sent from here."""

from __future__ import annotations

import getpass
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..execution.code_identity import distilc_version
from ..extensions import declared_facts, entries
from ..messages.credentials import redact
from ..messages.notices import FILE
from ..plan.plan import Plan, Stage, is_beside_plan
from ..plan.settings import DataSettings, Source

MAX_KEY = 250
MAX_PARAMETER = 6000
MAX_TAG = 5000
MAX_DIGEST = 36
SAMPLE_LINES = 50


def parameters(plan: Plan) -> dict[str, str]:
    """The resolved spec, flattened, and the sizes that came out of it; within MLflow's limits."""
    computed = {
        "seed": plan.seed,
        "task": plan.task,
        "teacher.parameters": plan.teacher.parameters,
        "student.parameters": plan.student.parameters,
        "student.trainable_parameters": plan.student.trainable_parameters,
        "copy": asdict(plan.copy),
        "phi": asdict(plan.phi),
    }
    return {**shortened(computed), **shortened(plan.spec)}


def stage_parameters(stage: Stage) -> dict[str, str]:
    return shortened(asdict(stage.settings))


def shortened(tree: Mapping[str, Any]) -> dict[str, str]:
    """Leaves as `a.b.c` -> text; lists as JSON; what is not set is left out."""
    return {entity_name(name): _cut(redact(_text(value)), MAX_PARAMETER) for name, value in _leaves(tree, "")}


def entity_name(name: str) -> str:
    """`name` as MLflow takes it for a parameter or metric: word characters, `.`, `-`, `:`, space and `/`."""
    clean = re.sub(r"[^\w./: -]", "_", name)
    clean = re.sub(r"/+", "/", clean).strip("/") or "_"
    return clean[-MAX_KEY:].lstrip("./") or "_"


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def run_tags(plan: Plan) -> dict[str, str]:
    """Tags of the parent run: what is searched for."""
    tags = {
        "mlflow.user": _user(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": _spec_file(plan) or plan.name,
        "distilc.version": distilc_version(),
        "distilc.key": plan.key,
        "distilc.variant": plan.variant or "",
        "distilc.teacher": plan.teacher.model,
        "distilc.student": plan.student.shape,
        "distilc.technique": technique(plan),
        **{f"distilc.key.{stage.id}": stage.key for stage in plan.stages},
    }
    commit = git_commit(plan)
    if commit is not None:
        tags["mlflow.source.git.commit"] = commit
    tags.update(plan.tracking.tags)
    return {name: _cut(redact(value), MAX_TAG) for name, value in tags.items() if value}


def stage_tags(stage: Stage) -> dict[str, str]:
    return {"distilc.stage": stage.id, "distilc.kind": stage.kind, "distilc.key": stage.key}


def technique(plan: Plan) -> str:
    """`sft` when the labels are all that the student learns from; else the terms of its objective."""
    terms = list(dict.fromkeys(name for stage in plan.phases for name in stage.settings.objective.terms))
    return "sft" if terms == ["labels"] else "+".join(terms)


def git_commit(plan: Plan) -> str | None:
    """The commit of the folder that the spec lies in; None: it is not under git."""
    file = _spec_file(plan)
    folder = Path(file).resolve().parent if file else Path.cwd()
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def _spec_file(plan: Plan) -> str | None:
    # Of the spec itself: places of the other specs that it names a model of have their run's name before the path.
    return next((file for path, (file, _, _) in plan.places.items() if "/" not in path), None)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def datasets(stage: Stage, summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """The data sets of a data stage: {name, context, digest, source_type, source, profile}. The digest covers
    the sources of one split; the profile is what the stage counted."""
    settings: DataSettings = stage.settings
    splits = {"train": settings.train, "validation": settings.validation}
    splits |= {f"test.{name}": sources for name, sources in settings.test.items()}
    contexts = {"train": "training", "validation": "validation"}
    return [
        {
            "name": _dataset_name(split, sources),
            "context": contexts.get(split, "test"),
            "digest": _digest(sources),
            "source_type": sources[0].kind if sources else "files",
            "source": _text([asdict(source) for source in sources])[:60000],
            "profile": _text(summary.get(split, {})),
        }
        for split, sources in splits.items()
        if sources
    ]


def _dataset_name(split: str, sources: Sequence[Source]) -> str:
    names = ", ".join(source.name or source.kind for source in sources)
    return _cut(f"{names} [{split}]", 500)


def _digest(sources: Sequence[Source]) -> str:
    fingerprints = [print for source in sources for print in source.fingerprints]
    if len(fingerprints) == 1 and sources[0].limit is None:
        return fingerprints[0][:MAX_DIGEST]
    content = json.dumps([asdict(source) for source in sources], sort_keys=True, allow_nan=False)
    return hashlib.sha256(content.encode()).hexdigest()[:MAX_DIGEST]


def plan_files(run_folder: Path) -> list[Path]:
    """The compiled plan and what was written beside it."""
    names = sorted(file for file in run_folder.glob("*") if file.name == "plan.json" or is_beside_plan(file.name))
    return [file for file in names if file.is_file() and not file.is_symlink()]


def stage_files(kind: str, folder: Path) -> list[Path]:
    """The files of an artifact that go to MLflow: those that the kind's fragment names, and its warnings. Models stay
    in the store."""
    told = declared_facts("stages", kind).get("files", ()) if kind in entries("stages") else ()
    patterns = (*told, FILE)
    return sorted(file for pattern in patterns for file in folder.glob(pattern) if file.is_file())


def file_text(file: Path) -> str:
    """What is sent of a text file: the first lines of predictions and labels, all of others, without passwords."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        if file.name.startswith(("predictions.", "labels.")):
            return "".join(line for line, _ in zip(lines, range(SAMPLE_LINES), strict=False))
        return redact(lines.read())


def numbers(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """All numbers of nested mappings, `a/b/c` -> value."""
    found: dict[str, float] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[entity_name(f"{prefix}{name}")] = float(value)
    return found


def summary_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """The run's results as metrics of the parent run: `teacher/rouge2`, `retention/rouge2`, `speedup`."""
    names = ("teacher", "student", "baselines", "retention", "speedup", "parameters", "labels", "results")
    return numbers({name: summary[name] for name in names if summary.get(name) is not None})
