"""The keys of a plan, computed again from what it says: one that was edited, or compiled by another version, would
publish its results under the name of something else.

The same as in the compile half, which made the keys; a test holds the two to each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Of our kinds, by their schema fragments. The content of a package is in the settings of its stages.
STAGE_FORMATS: dict[str, int] = {
    kind: facts["format"]
    for file in sorted(Path(__file__).resolve().parents[1].joinpath("stages").glob("*.schema.json"))
    for kind, facts in json.loads(file.read_text("utf-8"))["stages"].items()
}


def stage_key(kind: str, settings: Mapping[str, Any], needs: Mapping[str, str]) -> str:
    """The key of a stage: kind, format of its code, settings as the plan has them, `needs` (role -> key)."""
    return _digest({"kind": kind, "format": STAGE_FORMATS.get(kind, 1), "settings": settings, "needs": needs})


def run_key(stages: Sequence[Mapping[str, Any]]) -> str:
    """The key of a run: of its stages' ids and keys, in order. Signals are what is computed anyway, kept."""
    return _digest([[stage["id"], stage["key"]] for stage in stages if stage["kind"] != "signals"])


# What a plan says beside its stages, which is in no key. Site and places are of a machine, and may be others.
FACTS = (
    "name", "variant", "task", "seed", "teacher", "student", "copy", "phi", "metrics", "expect", "tracking", "spec",
    "named", "baselines",
)  # fmt: skip


def facts_digest(plan: Mapping[str, Any]) -> str:
    """Of what is told of a run and decides nothing: somebody who changed it would wait for an effect in vain."""
    return _digest({name: plan[name] for name in FACTS if name in plan})


def _digest(value: Any) -> str:
    """sha256 of the JSON with sorted keys and no spaces. Raises `ValueError` for NaN and infinities."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
