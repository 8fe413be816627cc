"""distilc's own terms, metrics, stage kinds and ways to train, as their schema fragments describe them.

Ours are registered as packages register theirs: a module of the run half, `<module>.schema.json` beside it, and a
line in pyproject.toml. The fragments alone are read here. Beside what a package may say of a term
(`schema/extension.schema.json`) one of ours may say

    stacks         its weights, where it has several: setting -> the stack whose layers it compares
    setting_needs  setting -> value -> what the term looks at with it, in words, that is kept of no teacher
    optional       settings that a spec may leave out and that have no default
    alone          the term is its weight: there is no mapping of settings

of a setting

    x-with         with which task, or value of another setting, alone it has its default

and of a metric

    section        the section of `evaluation` with its settings

and of a stage kind

    format         of its code, which is in the key: raised by one when equal settings give another result

whose needs and settings a fragment says only of a kind that a spec names under `stages`, and of a setting of a way to
train

    scheduled      it may change while the model is trained
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..tasks.task import LOSS

RUNTIME = Path(__file__).resolve().parents[2] / "runtime"
FOLDERS = ("metrics", "objective", "stages", "training")  # of the run half: where modules with fragments are
ENDING = ".schema.json"

Facts = Mapping[str, Any]


@cache
def built_in(kind: str) -> Mapping[str, Facts]:
    """Name -> what the fragments say of it. `kind`: terms, metrics, stages or methods. Raises OSError or ValueError:
    distilc's own files are damaged."""
    found: dict[str, Facts] = {}
    for fragment in _fragments():
        found |= fragment.get(kind, {})
    return found


@cache
def _fragments() -> tuple[Mapping[str, Any], ...]:
    files = [f"{RUNTIME}/{folder}/{name}" for folder in FOLDERS for name in sorted(os.listdir(RUNTIME / folder))]
    return tuple(json.loads(Path(file).read_text("utf-8")) for file in files if file.endswith(ENDING))


def fits(facts: Facts, task: str) -> bool:
    """Is it for this task? What names none is for all."""
    return task in facts.get("tasks", (task,))


def measured_metrics(task: str | None = None) -> tuple[str, ...]:
    """Our metrics that an evaluation measures, of a task or of all."""
    return tuple(
        name
        for name, metric in built_in("metrics").items()
        if name != LOSS and (task is None or fits(metric, task))
    )


def metrics_set_by(section: str) -> tuple[str, ...]:
    """Our metrics that a section of `evaluation` has settings of."""
    return tuple(name for name, metric in built_in("metrics").items() if metric.get("section") == section)
