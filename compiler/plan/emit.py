"""A plan -> its folder: plan.json, deepspeed.<stage>.json, launch.sh, lock.yaml."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from ..diagnostics.credentials import without_credentials
from ..diagnostics.diagnostic import dotted
from ..extensions.schema_files import misfits
from ..resolve.architecture import Architecture
from ..resolve.copies import STACKS
from ..resolve.layers import Layers
from ..resolve.run import baseline_facts
from ..resolve.site import Site
from .keys import facts_digest
from .launch import launch_script
from .lock import lock_text, make_lock
from .plan import Plan, Stage, Stages

FORMAT = 1
SCHEMA = Path(__file__).resolve().parents[2] / "schema" / "plan.schema.json"


def emit(plan: Plan, folder: Path) -> Path:
    """Write a plan folder, each file whole or not at all; returns the folder.

    Raises `ValueError` when the plan does not fit `schema/plan.schema.json`, which is a mistake in distilc,
    and `OSError` when the folder cannot be written.
    """
    return _write(plan_files(plan), folder)


def emit_all(plans: Iterable[Plan], folder: Path) -> list[Path]:
    """Write each plan into the folder of its name below `folder`. Raises as `emit` does."""
    # Making a file takes the system as long as thinking of its text: the two go side by side.
    with ThreadPoolExecutor(max_workers=2) as pool:
        written = [pool.submit(_write, plan_files(plan), folder / plan.name) for plan in plans]
        return [future.result() for future in written]


def plan_files(plan: Plan) -> dict[str, str]:
    """The files of a plan folder: name -> text. Raises `ValueError` when the plan does not fit its schema."""
    tree = plan_tree(plan)
    tree = {**tree, "digest": facts_digest(tree)}
    validate_plan(tree)
    files = {
        "plan.json": plan_text(tree),
        "lock.yaml": lock_text(make_lock(plan)),
        "launch.sh": launch_script(plan),
    }
    for stage in tree["stages"]:
        name = f"deepspeed.{stage['id'].replace('/', '.')}"
        if stage["execution"]["deepspeed"] is not None:
            files[f"{name}.json"] = plan_text(stage["execution"]["deepspeed"])
        if (config := stage["execution"].get("teacher_deepspeed")) is not None:
            files[f"{name}.teacher.json"] = plan_text(config)
    return files


def plan_tree(plan: Plan) -> dict[str, Any]:
    """A plan as JSON data, which `schema/plan.schema.json` describes."""
    experiment, found, stages = plan.experiment, plan.found, plan.stages
    teacher, student = found.teacher, found.student
    shape = student.architecture
    places = plan.run.reporter.all_places()
    for owner, other in plan.named.items():
        places |= {f"{owner}/{path}": place for path, place in other.reporter.all_places().items()}
    named = {
        owner: {"file": str(other.spec_file), "run": other.experiment.name, "spec": other.tree}
        for owner, other in plan.named.items()
    }
    tree: dict[str, Any] = {
        "format": FORMAT,
        "name": experiment.name,
        "variant": experiment.variant,
        "task": experiment.task,
        "seed": experiment.seed,
        "key": plan.key,
        "teacher": _summary(teacher.name, teacher.architecture, () if experiment.teacher.train is not None else None),
        "student": _summary(f"{shape.family} {shape.size}", shape, student.freeze),
        "copy": {stack: _layers(student.copies.get(stack)) for stack in STACKS},
        "phi": {stack: _layers(student.phi.get(stack)) for stack in STACKS},
        "metrics": experiment.evaluation.metrics,
        "expect": {who: asdict(expectation) for who, expectation in experiment.expect.items()},
        "stages": [_stage(id, stage, stages) for id, stage in stages.items()],
        "site": _site(plan.site),
        "tracking": asdict(experiment.tracking),
        "spec": plan.run.tree,
        "places": places,
        **({"named": named} if named else {}),
        **({"baselines": baseline_facts(experiment)} if experiment.baselines else {}),
    }
    plain: dict[str, Any] = _plain(tree)
    return plain


def _stage(id: str, stage: Stage, stages: Stages) -> dict[str, Any]:
    """What of its execution is off and came after the first plans is left out."""
    run = stage.execution
    execution = {
        "locations": run.locations,
        "micro_batch_tokens": run.micro_batch_tokens,
        "save_minutes": run.save_minutes,
        "deepspeed": run.deepspeed,
        **({"teacher_deepspeed": run.teacher_deepspeed} if run.teacher_deepspeed is not None else {}),
        **({"checkpointing": True} if run.checkpointing else {}),
        **({"signals": stages.ids(run.signals)} if run.signals else {}),
    }
    return {
        "id": id,
        "kind": stage.kind,
        "key": stage.key,
        "needs": stages.ids(stage.needs),
        "settings": stage.settings,
        "execution": execution,
    }


def _summary(model: str, architecture: Architecture, freeze: tuple[str, ...] | None) -> dict[str, Any]:
    return {
        "model": model,
        "family": architecture.family,
        "parameters": architecture.parameters,
        "trainable_parameters": 0 if freeze is None else architecture.trainable(freeze),
        "encoder_layers": architecture.encoder_layers,
        "decoder_layers": architecture.decoder_layers,
    }


def _layers(found: Layers | None) -> list[int] | None:
    return None if found is None else list(found.layers)


def _site(site: Site) -> dict[str, Any]:
    return {
        "workspace": str(site.workspace),
        "shared_stores": [str(store) for store in site.shared_stores],
        "offline": site.offline,
        "device": site.device,
        "nodes": site.nodes,
        "per_node": site.per_node,
        "hostfile": None if site.hostfile is None else str(site.hostfile),
        "tracking": {"uri": None if site.tracking_uri is None else without_credentials(site.tracking_uri)},
        **({} if site.scratch is None else {"scratch": str(site.scratch)}),
    }


def _plain(value: Any) -> Any:
    """As JSON has it: mappings are dicts, tuples are lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _write(files: Mapping[str, str], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("deepspeed.*.json"):
        if stale.name not in files:
            stale.unlink()  # of a plan that was compiled here before
    for name, text in files.items():
        temporary = folder / f".{name}.{os.getpid()}"
        temporary.write_text(text, "utf-8")
        if name.endswith(".sh"):
            temporary.chmod(0o755)
        temporary.replace(folder / name)
    return folder


def plan_text(tree: Mapping[str, Any]) -> str:
    """Canonical JSON for people: sorted keys, one form of every number, what holds no other mapping or list on
    one line, a newline at the end. Raises `ValueError` for NaN and infinities."""
    return _pretty(tree, "\n") + "\n"


def _pretty(value: Any, line: str) -> str:
    """`line`: the line break and the indentation of the value."""
    if not isinstance(value, dict | list):
        return _scalar(value)
    deeper = line + " "
    if isinstance(value, dict):
        if any(isinstance(item, dict | list) for item in value.values()):
            inside = [f"{_scalar(key)}: {_pretty(value[key], deeper)}" for key in sorted(value)]
            return f"{{{deeper}{f',{deeper}'.join(inside)}{line}}}"
    elif any(isinstance(item, dict | list) for item in value):
        inside = [_pretty(item, deeper) for item in value]
        return f"[{deeper}{f',{deeper}'.join(inside)}{line}]"
    return _flat(value)


def _flat(value: Any) -> str:
    """On one line."""
    if isinstance(value, dict):
        return f"{{{', '.join([f'{_scalar(key)}: {_flat(value[key])}' for key in sorted(value)])}}}"
    return f"[{', '.join(map(_flat, value))}]" if isinstance(value, list) else _scalar(value)


@lru_cache(maxsize=1 << 16, typed=True)  # 1, 1.0 and true are equal and not the same text
def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def validate_plan(plan: Mapping[str, Any]) -> None:
    """Hold a plan to its schema. Raises `ValueError` naming the first thing that does not fit.

    The runs of a sweep share most of their values: what fitted before is not looked at again.
    """
    schema = _schema()
    stages, places = plan.get("stages"), plan.get("places")
    _fit_mapping("plan", {**plan, "stages": [], "places": {}}, schema)
    if not isinstance(stages, list) or not isinstance(places, dict):
        raise ValueError("the plan does not fit its schema: it has no stages or no places")
    of_place = schema["properties"]["places"]["additionalProperties"]
    for path, place in places.items():
        _fit(f"places.{path}", place, of_place)
    for stage in stages:
        if not isinstance(stage, dict) or not isinstance(stage.get("settings"), dict):
            raise ValueError("the plan does not fit its schema: it has a stage without settings")
        if not isinstance(stage.get("kind"), str):
            raise ValueError("the plan does not fit its schema: it has a stage without a kind")
        where = f"stage {stage.get('id')}"
        settings = schema["$defs"][_settings_of(stage["kind"])]
        _fit_mapping(where, {**stage, "settings": {}}, schema["$defs"]["Stage"])
        _fit_mapping(f"{where}.settings", stage["settings"], settings)


def _fit_mapping(where: str, value: Any, schema: Mapping[str, Any]) -> None:
    """A closed mapping, key by key."""
    known = schema["properties"]
    if not isinstance(value, dict) or value.keys() - known.keys() or not value.keys() >= set(schema["required"]):
        _fit(where, value, schema)
    for name, item in value.items():
        _fit(f"{where}.{name}", item, known[name])


_FITTED: set[tuple[int, str]] = set()


def _fit(where: str, value: Any, schema: Mapping[str, Any]) -> None:
    mark = (id(schema), _flat(value))  # the fragments live as long as the schema, which is kept
    if mark in _FITTED:
        return
    for misfit in misfits(value, schema, _schema()):
        below = dotted((where, *misfit.path))
        raise ValueError(f"the plan does not fit its schema at {below}: {misfit.words}")
    _FITTED.add(mark)


@cache
def _settings_of(kind: str) -> str:
    """The definition of a kind's settings. The last rule is that of all kinds but ours."""
    for rule in _schema()["$defs"]["Stage"]["allOf"]:
        name: str = rule["then"]["properties"]["settings"]["$ref"]
        if rule["if"]["properties"]["kind"].get("const") == kind:
            break
    return name.removeprefix("#/$defs/")


@cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(SCHEMA.read_text("utf-8"))
    return schema
