"""`explain --why STAGE`: which inputs made a stage differ from the nearest artifact in the store.

An artifact's manifest records what it was made from: the settings of its stage and the keys of the artifacts
that it needed. So a difference is followed upstream until it ends in a setting, which is a key of the spec.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..diagnostics.diagnostic import Position, Reporter, did_you_mean, quoted
from ..diagnostics.record import record
from ..plan.plan import Plan, Stages
from ..resolve.fingerprint import UNRESOLVED
from ..spec.setting_paths import Change, changed_settings
from .explain import stage_states


@record
class Artifact:
    """What a manifest says. `settings` and `needs` (role -> key) are None in a manifest that does not record
    them; `created` in seconds since 1970."""

    key: str
    kind: str
    stage: str
    created: float
    settings: Mapping[str, Any] | None
    needs: Mapping[str, str] | None


@record
class Comparison:
    """A stage beside an artifact of its kind. `changed`: its own settings, `a` here and `b` there; `notes`: what
    else differs, in words; `upstream`: the stages that it needs and that differ."""

    stage: str
    artifact: Artifact
    changed: Sequence[Change]
    notes: Sequence[str]
    upstream: Sequence[Comparison]

    @property
    def num_causes(self) -> int:
        return len(self.changed) + len(self.notes) + sum(found.num_causes for found in self.upstream)


@record
class Why:
    """Why a stage of a run is to be computed. `stored`: it is not, here is its artifact; `nearest` None: there
    is none to compare with; `num_silent`: artifacts of its kind whose manifests do not say what they are of."""

    run: str
    stage: str
    kind: str
    key: str
    stored: Artifact | None
    nearest: Comparison | None
    num_silent: int


def explain_why(plans: Sequence[Plan], stage: str, reporter: Reporter) -> list[Why]:
    """One answer for each run that has the stage. Reports E565 when none has."""
    having = [plan for plan in plans if stage in plan.stages]
    if plans and not having:
        ids = list(dict.fromkeys(id for plan in plans for id in plan.stages))
        near = did_you_mean(stage, ids)
        hint = f"the stages are {', '.join(ids)}"
        reporter.error_at(
            "E565",
            Position("--why", 1, 1),
            f"there is no stage {quoted(stage)}",
            f"did you mean {near}? {hint}" if near else hint,
        )
    artifacts: dict[tuple[Path, ...], dict[str, Artifact]] = {}
    answers = []
    for plan in having:
        stores = tuple(plan.stores)
        if stores not in artifacts:
            artifacts[stores] = read_artifacts(stores)
        answers.append(_why(plan, stage, artifacts[stores]))
    return answers


def read_artifacts(stores: Sequence[Path]) -> dict[str, Artifact]:
    """Key -> artifact, of all stores; the first that has a key counts."""
    found: dict[str, Artifact] = {}
    for store in stores:
        for file in sorted(store.glob("*/manifest.json")):
            artifact = _read(file)
            if artifact is not None:
                found.setdefault(artifact.key, artifact)
    return found


def _read(file: Path) -> Artifact | None:
    """The artifact of a manifest; None: it cannot be read, the runtime will say so."""
    try:
        manifest = json.loads(file.read_text("utf-8"))
        settings, needs = manifest.get("settings"), manifest.get("needs")
        known = isinstance(settings, Mapping) and isinstance(needs, Mapping)
        return Artifact(
            file.parent.name,
            str(manifest["kind"]),
            str(manifest["stage"]),
            float(manifest["created"]),
            settings if known else None,
            needs if known else None,
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _why(plan: Plan, id: str, artifacts: Mapping[str, Artifact]) -> Why:
    stages = plan.stages
    keys = {state["id"]: state["key"] for state in stage_states(stages, plan.stores)}
    kind, key = stages[id].kind, keys[id]
    of_kind = [artifact for artifact in artifacts.values() if artifact.kind == kind]
    silent = sum(artifact.settings is None for artifact in of_kind)
    nearest = None
    if key not in artifacts:
        compared = (
            _compare(stages, keys, id, artifact, artifacts, set())
            for artifact in of_kind
            if artifact.settings is not None
        )
        nearest = min(
            compared,
            # A stage of the same name does the same job; an evaluation of the teacher is no near one of the student.
            key=lambda found: (_job(found.artifact.stage) != _job(id), found.num_causes, -found.artifact.created),
            default=None,
        )
    return Why(plan.name, id, kind, key, artifacts.get(key), nearest, silent)


def _job(id: str) -> str:
    """What a stage does: a run that names another one for a model has its name before the stage's."""
    return id.rpartition("/")[2]


def _compare(
    stages: Stages,
    keys: Mapping[str, str],
    id: str,
    artifact: Artifact,
    artifacts: Mapping[str, Artifact],
    told: set[tuple[str, str]],
) -> Comparison:
    """`told`: (stage, key of the artifact beside it) that were compared before: a cause is named once."""
    stage = stages[id]
    assert artifact.settings is not None and artifact.needs is not None
    changed = changed_settings(id, stage.kind, stage.settings, artifact.settings)
    notes: list[str] = []
    upstream: list[Comparison] = []
    told_before = False
    order = list(stages)  # earlier stages first: a cause is named as near to where it is as can be
    needs = stages.ids(stage.needs)
    roles = sorted(needs, key=lambda role: order.index(needs[role]))
    for role in dict.fromkeys([*roles, *artifact.needs]):
        needed, there = needs.get(role), artifact.needs.get(role)
        if needed is None or there is None:
            other = "none" if there is None else artifacts[there].stage if there in artifacts else "another"
            notes.append(f"{role}: {needed or 'none'} here, {other} there")
            continue
        if keys[needed] == there:
            continue
        if (needed, there) in told:
            told_before = True
            continue
        told.add((needed, there))
        beside = artifacts.get(there)
        if beside is None:
            notes.append(f"{role}: {needed} differs; the other one ({there[:8]}) is not in the store any more")
        elif beside.kind != stages[needed].kind:
            notes.append(f"{role}: {needed} here, {beside.stage} there")
        elif beside.settings is None:
            notes.append(f"{role}: {needed} differs; the other one ({there[:8]}) does not record what it was made from")
        else:
            found = _compare(stages, keys, needed, beside, artifacts, told)
            told_before |= not found.num_causes
            upstream += [found] if found.num_causes else []
    if not (changed or notes or upstream or told_before):
        unknown = keys[id] == UNRESOLVED
        notes.append(
            "an input is not known here" if unknown else "nothing but distilc: this stage's code has another format"
        )
    return Comparison(id, artifact, changed, notes, upstream)


# --- for people and for programs -------------------------------------------------------------------


def why_text(why: Why) -> str:
    """One answer in words; ends with a newline."""
    name = f"{why.run}: {why.stage} ({_short(why.key)})"
    if why.stored is not None:
        return f"{name} is in the store, made {_day(why.stored)}\n"
    lines = [f"{name} is not in the store"]
    if why.nearest is not None:
        beside = why.nearest.artifact
        lines.append(f"nearest: {beside.stage} ({_short(beside.key)}), made {_day(beside)}")
        lines += _lines(why.nearest, "  ")
    elif why.num_silent:
        number = "one artifact" if why.num_silent == 1 else f"{why.num_silent} artifacts"
        lines.append(f"the store has {number} of its kind ({why.kind}), without a record of what they were made from")
    else:
        lines.append(f"nothing of its kind ({why.kind}) is in the store")
    return "\n".join(lines) + "\n"


def _lines(found: Comparison, indent: str) -> Iterator[str]:
    where = f"(artifact {_short(found.artifact.key)}, {_day(found.artifact)})"
    for key, here, there in found.changed:
        yield f"{indent}{key}: {_value(here)} here, {_value(there)} there {where}"
    for note in found.notes:
        yield f"{indent}{note} {where}"
    for below in found.upstream:
        yield f"{indent}upstream: {below.stage} differs:"
        yield from _lines(below, f"{indent}  ")


def why_json(answers: Sequence[Why]) -> dict[str, Any]:
    """`{"version": 1, "runs": [{name, stage, kind, key, stored, nearest, differences}]}`; each difference with
    the stage that it is of, and with the key of the spec or a note."""
    return {
        "version": 1,
        "runs": [
            {
                "name": why.run,
                "stage": why.stage,
                "kind": why.kind,
                "key": why.key,
                "stored": why.stored is not None,
                "nearest": None if why.nearest is None else _artifact(why.nearest.artifact),
                "differences": [] if why.nearest is None else list(_differences(why.nearest)),
            }
            for why in answers
        ],
    }


def _differences(found: Comparison) -> Iterator[dict[str, Any]]:
    common = {"stage": found.stage, "artifact": found.artifact.key}
    for key, here, there in found.changed:
        yield {**common, "path": key, "here": here, "there": there}
    for note in found.notes:
        yield {**common, "note": note}
    for below in found.upstream:
        yield from _differences(below)


def _artifact(artifact: Artifact) -> dict[str, Any]:
    return {"key": artifact.key, "stage": artifact.stage, "created": artifact.created}


def _short(key: str) -> str:
    return key if key == UNRESOLVED else key[:8]


def _day(artifact: Artifact) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(artifact.created))


def _value(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64:
        return value[:12]  # a fingerprint
    return "nothing" if value is None else quoted(value)
