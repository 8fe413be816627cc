"""The key of a stage: what its artifact is called in the store.

A key is the sha256 of everything that changes the stage's result and of nothing else: kind, format of the
stage's code, settings, and the keys of the stages it needs. Where and how a stage runs (`execution`) and
what the run is called do not enter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..extensions.built_in import built_in

# Of our kinds; the runtime, which holds plans to their keys, reads the same fragments. The content of a package is in
# the settings of its stages.
STAGE_FORMATS: dict[str, int] = {kind: facts["format"] for kind, facts in built_in("stages").items()}


def canonical(value: Any) -> str:
    """JSON with one form for equal values: sorted keys, no spaces, floats in shortest round-trip form.

    Raises `ValueError` for NaN and infinities, which JSON has no words for.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """sha256 of the canonical form, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode("utf-8")).hexdigest()


def stage_key(kind: str, settings: Mapping[str, Any], needs: Mapping[str, str]) -> str:
    """The key of a stage. `needs`: role -> key of the stage in that role."""
    return digest({"kind": kind, "format": STAGE_FORMATS.get(kind, 1), "settings": settings, "needs": needs})


def run_key(stages: Sequence[tuple[str, str, str]]) -> str:
    """The key of a run: a hash of the ids and keys of its stages (id, kind, key), but for those of signals, which a
    site may keep or not."""
    return digest([[id, key] for id, kind, key in stages if kind != "signals"])


# What a plan says beside its stages, which is in no key. Site and places are of a machine, and may be others.
FACTS = (
    "name", "variant", "task", "seed", "teacher", "student", "copy", "phi", "metrics", "expect", "tracking", "spec",
    "named", "baselines",
)  # fmt: skip


def facts_digest(plan: Mapping[str, Any]) -> str:
    """By this the runtime sees that a plan was edited where no key would tell."""
    return digest({name: plan[name] for name in FACTS if name in plan})
