"""The tree of one run with everything in it that depends on the task or on other keys.

In: a tree whose defaults of the schema are filled in. Out: the same with the defaults that wait for another key, and
with those of the task (`tasks/task.py`). What comes out is a spec still, alone and complete: it is bound to the typed
run (`bind.py`), and written back as YAML (`resolved.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..tasks.task import LOSS, TASKS, column_keys
from .phases import OF_A_PHASE
from .structure import Schema, with_defaults

# What was made of a part of a tree, by the part's id and what it was made for; and the part, so that it keeps its id.
Known = dict[tuple[int, str | type], tuple[Any, Any]]


def normalise(tree: Mapping[str, Any], schema: Schema, known: Known | None = None) -> dict[str, Any]:
    """The complete tree of a run; `tree` itself is not changed. `known` keeps what was made of a section: the runs of a
    sweep share most of theirs."""
    name, known = tree["task"], {} if known is None else known
    task, found = TASKS[name], {}
    for key, section in tree.items():
        if (id(section), name) not in known:
            fragment = schema.root["properties"].get(key, {})
            known[id(section), name] = section, with_defaults(schema, fragment, section, task=name)
        found[key] = known[id(section), name][1]
    found["seeds"] = tree["seeds"][:1]
    found["tracking"] = {"experiment": tree["name"], **found["tracking"]}
    served_by = task.served_by or "onnx"  # of a task that has none: a rule says so
    exports = [{"engine": served_by, **export} for export in found["evaluation"]["exports"]]
    found["evaluation"] = {"metrics": list(task.measured), **found["evaluation"], "exports": exports}
    columns = found["data"]["columns"]
    paired = bool({*(task.pair or ())} & {*columns})
    keys = (*column_keys(name, paired=paired), "hypothesis" if paired else "")
    # A column is called as its key, unless the spec says otherwise.
    found["data"] = {**found["data"], "columns": {**{key: key for key in keys if key}, **columns}}
    if isinstance(found["training"], list):
        phases = [{**{key: found[key] for key in OF_A_PHASE}, **phase} for phase in found["training"]]
        found["training"] = [phase | _monitored(phase, task.monitor) for phase in phases]
    found |= _monitored(found, task.monitor)
    if "train" in found["teacher"]:
        train = found["teacher"]["train"]
        found["teacher"] = {**found["teacher"], "train": train | _monitored(train, task.monitor)}
    return found


def _monitored(tree: Mapping[str, Any], best: str) -> dict[str, Any]:
    """`stopping` of a training with the metric that decides what is best."""
    return {"stopping": {"monitor": best if best in tree["validation"]["metrics"] else LOSS, **tree["stopping"]}}
