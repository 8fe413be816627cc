"""plan.json -> `Plan`.

A plan of another format, with an unknown key, a missing key or a value of another type is refused. So is one whose
strings lead out of the folders they are parts of, one that configures the engine otherwise than its settings can, and
one whose keys are not those of its settings: a plan may come from others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..failure import Failure
from ..files.regular_file import open_regular
from ..messages.credentials import without_credentials
from .binding import bind, misfit
from .keys import facts_digest, run_key, stage_key
from .plan import Plan, Stage
from .settings import KINDS, OwnSettings, SignalsSettings, TeacherSettings, TrainSettings

FORMAT = 1


def load_plan(path: Path, *, to_run: bool = True) -> Plan:
    """Read and bind a plan. `to_run` False: what was computed is looked at, and nothing is computed, so that a plan
    of an earlier version will do, whose keys are made otherwise now.

    Raises `Failure` (R1xx) when the file is missing, is not JSON, is of another format, or does not fit; R110 when
    its keys are not those of what it says.
    """
    if path.is_dir():
        path = path / "plan.json"
    tree = _read_tree(path)
    found = tree.get("format") if isinstance(tree, dict) else None
    if found != FORMAT:
        raise Failure(
            "R103",
            f"{path} has plan format {found!r:.40}, this distilc reads format {FORMAT}",
            "compile the spec again with the installed version",
        )
    try:
        plan = bind_plan(tree)
    except OverflowError as error:
        raise misfit("plan", f"holds a number that is too large ({error})") from error
    _check_paths(plan)
    _check_engines(plan)
    if to_run:
        _check_keys(plan, tree, path)
    return plan


def _read_tree(path: Path) -> Any:
    again = "compile it again: distilc compile SPEC"
    try:
        with open_regular(path) as file:
            tree = json.loads(file.read().decode("utf-8"))
    except OSError as error:
        raise Failure("R101", f"cannot read the plan {path}: {error.strerror}", again) from error
    except RecursionError as error:
        raise Failure("R102", f"{path} is not a plan: it is nested too deep", again) from error
    except ValueError as error:
        raise Failure("R102", f"{path} is not a plan: {error}", again) from error
    level = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level if isinstance(node, dict | list) for child in _children(node)]
    if level:
        raise Failure("R102", f"{path} is not a plan: it is nested more than {MAX_DEPTH} deep", again)
    return tree


MAX_DEPTH = 100  # a spec has at most 50


def _children(node: dict[str, Any] | list[Any]) -> Any:
    return node.values() if isinstance(node, dict) else node


def bind_plan(tree: Mapping[str, Any]) -> Plan:
    """Bind a parsed plan. Raises `Failure` R104 naming the path of the first thing that does not fit."""
    tree = dict(tree)
    stages = tree.get("stages")
    if isinstance(stages, list):
        tree["stages"] = [_bind_settings(stage, f"stages[{i}]") for i, stage in enumerate(stages)]
    plan: Plan = bind(Plan, tree, "plan")
    known: dict[str, Stage] = {}
    for stage in plan.stages:
        for role, id in stage.reads.items():
            if id not in known:
                raise misfit(f"stage {stage.id}", f"needs.{role} names {id!r}, which is no earlier stage")
        if stage.id in known:
            raise misfit(f"stage {stage.id}", "is there twice")
        known[stage.id] = stage
    for id in EVERY_PLAN:
        if id not in known or known[id].kind != id:
            raise misfit("plan.stages", f"has no stage {id!r} of that kind")
    return plan


EVERY_PLAN = ("data", "train")  # the stages that every plan has, each of the kind that it is called by


def _bind_settings(stage: Any, path: str) -> Any:
    if not isinstance(stage, dict) or not isinstance(stage.get("kind"), str):
        raise misfit(path, "is no stage of a kind")
    settings = KINDS.get(stage["kind"], OwnSettings)
    return {**stage, "settings": bind(settings, stage.get("settings"), f"{path}.settings")}


# --- what a plan may say ---------------------------------------------------------------------------
# A plan may come from others. What of it becomes a part of a path is held to a pattern, what configures the engine
# to the only config that its settings can have, and its keys to what they are made of.

_KEY = r"[0-9a-f]{64}"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_ID = rf"({_NAME}/)*[a-z][A-Za-z0-9_-]*"
_TEST_SET = r"[A-Za-z0-9_-]+"
_REPOSITORY = rf"{_NAME}(/{_NAME})?"
_REVISION = r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/+@:-]*"
MOST_DEVICES = 65536  # of a machine


def _check_paths(plan: Plan) -> None:
    """Raises `Failure` R104: a string of the plan would lead out of the folder that it names a part of."""
    _require(_NAME, plan.name, "plan.name")
    _require(_KEY, plan.key, "plan.key")
    site = plan.site
    for name, folder in (("workspace", site.workspace), ("scratch", site.scratch), ("hostfile", site.hostfile)):
        _require_absolute(folder, f"plan.site.{name}")
    if site.tracking.uri is not None and without_credentials(site.tracking.uri) != site.tracking.uri:
        raise Failure(
            "R111",
            f"the plan has a password in it: {site.tracking.uri}",
            "compile it again; passwords are taken from the site, or from MLFLOW_TRACKING_URI",
        )
    for i, folder in enumerate(site.shared_stores):
        _require_absolute(folder, f"plan.site.shared_stores[{i}]")
    for name, number in (("nodes", site.nodes), ("per_node", site.per_node)):
        if not 1 <= number <= MOST_DEVICES:
            raise misfit(f"plan.site.{name}", f"is {number}, not a number from 1 to {MOST_DEVICES}")
    for stage in plan.stages:
        path = f"stage {stage.id!r}"
        _require(_ID, stage.id, f"{path}: id")
        _require(_KEY, stage.key, f"{path}: key")
        for content, place in stage.execution.locations.items():
            _require_absolute(place, f"{path}: execution.locations.{content}")
        settings = stage.settings
        if isinstance(settings, TeacherSettings):
            _require(_REPOSITORY, settings.repository, f"{path}: settings.repository")
            _require(_REVISION, settings.revision, f"{path}: settings.revision")
        test_sets = {**getattr(settings, "test", {}), **getattr(settings, "predictions", {})}
        for name in test_sets:
            _require(_TEST_SET, name, f"{path}: test set")
        train, validation = getattr(settings, "train", ()), getattr(settings, "validation", ())
        sources = [*train, *(validation if isinstance(validation, tuple) else ())]
        for source in [*sources, *(source for some in getattr(settings, "test", {}).values() for source in some)]:
            if source.kind == "hub":
                _require(_REPOSITORY, source.name or "", f"{path}: name of a data set")
                _require(_REVISION, source.revision, f"{path}: revision of a data set")


def _require(pattern: str, value: str | None, path: str) -> None:
    if value is not None and re.fullmatch(pattern, value) is None:
        raise misfit(path, f"may not be {value!r:.120}")


def _require_absolute(place: str | None, path: str) -> None:
    if place is not None and (not place.startswith("/") or "\0" in place):
        raise misfit(path, f"must be an absolute path, is {place!r:.120}")


def _check_engines(plan: Plan) -> None:
    """Raises `Failure` R104: an engine's config or the states that a stage reads are others than its settings have.
    Neither is in a key, so neither may change a result, or write what DeepSpeed's other options write."""
    stages = {stage.id: stage for stage in plan.stages}
    for stage in plan.stages:
        execution, path = stage.execution, f"stage {stage.id!r}: execution"
        for name in ("deepspeed", "teacher_deepspeed"):
            config = getattr(execution, name)
            if config is None:
                continue
            if not isinstance(stage.settings, TrainSettings):
                raise misfit(f"{path}.{name}", "belongs to a training")
            clipping = stage.settings.gradient_clipping if name == "deepspeed" else None
            _check_engine(config, stage.settings.precision, clipping, f"{path}.{name}")
        for side, id in execution.signals.items():
            signals = stages[id]
            of_side = isinstance(signals.settings, SignalsSettings) and signals.settings.side == side
            if not of_side or signals.needs.get("model") != stage.needs.get("teacher", signals.needs.get("model")):
                raise misfit(f"{path}.signals.{side}", f"names {id!r}, which does not hold these states")


def _check_engine(config: Mapping[str, Any], precision: str, clipping: float | None, path: str) -> None:
    partitions = config.get("zero_optimization")
    only: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": partitions,
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16"},
        "data_types": {"grad_accum_dtype": "fp32" if precision == "bf16" else None},
        "gradient_clipping": float(clipping or 0.0),
        "wall_clock_breakdown": False,
    }
    for key in dict.fromkeys([*config, *only]):
        if key == "steps_per_print" and isinstance(config[key], int):
            continue
        if key not in config or key not in only or config[key] != only[key]:
            raise misfit(f"{path}.{key}", "is not what the settings of the stage make it")
    if not isinstance(partitions, Mapping):
        raise misfit(f"{path}.zero_optimization", "must be a mapping")
    for key, value in partitions.items():
        offload = key in ("offload_optimizer", "offload_param") and value == {"device": "cpu", "pin_memory": True}
        number = key.startswith("stage3_") and isinstance(value, int)
        if not (offload or number or (key == "stage" and value in (0, 1, 2, 3))):
            raise misfit(f"{path}.zero_optimization.{key}", f"may not be {value!r:.120}")


def _check_keys(plan: Plan, tree: Any, path: Path) -> None:
    """Raises `Failure` R110: a key is not that of what the plan says."""
    wrong, edited, keys = "", False, {stage.id: stage.key for stage in plan.stages}
    try:
        for stage, found in zip(plan.stages, tree["stages"], strict=True):
            needs = {role: keys[id] for role, id in stage.needs.items()}
            if stage_key(stage.kind, found["settings"], needs) != stage.key:
                wrong = f"of the stage {stage.id}"
                break
        else:
            wrong = "of the run" if run_key(tree["stages"]) != plan.key else ""
        edited = plan.digest != "" and facts_digest(tree) != plan.digest
    except ValueError as error:  # no number, or half a character
        raise misfit("plan", f"holds what no key can be made of: {error}") from error
    if wrong:
        raise Failure(
            "R110",
            f"{path}: the key {wrong} is not that of its settings: the plan was edited, or another version of "
            "distilc compiled it",
            "change the spec, not the plan, and compile it again: distilc compile SPEC",
        )
    if edited:
        raise Failure(
            "R110",
            f"{path}: what stands beside its stages (seed, metrics, spec, ...) is not what was compiled: the plan was "
            "edited, and it would not do what it says",
            "change the spec, not the plan, and compile it again: distilc compile SPEC",
        )


