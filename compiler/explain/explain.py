"""What a run will do, for people and for programs: shapes, layer maps, memory, stages and what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from os.path import exists, isfile
from pathlib import Path
from typing import Any

from ..extensions.extension_record import used_extensions
from ..extensions.installed import WORDS
from ..plan.plan import Plan, Stage, Stages
from ..resolve.architecture import Architecture
from ..resolve.copies import STACKS, depth
from ..resolve.fingerprint import UNRESOLVED
from ..resolve.layers import Layers
from .engines import engine_lines, engines_of_run
from .estimates import effort_lines, memory_lines, total_line
from .forecast import forecast_effort, forecast_memory, forecast_total
from .layers import layer_lines
from .objective import objective_lines
from .signals import candidates_of_run, signal_lines, signals_of_run
from .text_table import table


def explain_json(plans: Sequence[Plan]) -> dict[str, Any]:
    """`{"version": 1, "runs": [...], "estimate": {...}}`, the latter of all runs together. The key of a stage
    with an input that could not be found out is "unresolved", and so are those of the stages that need it."""
    return {"version": 1, "runs": [_run(plan) for plan in plans], "estimate": forecast_total(plans)}


def explain_texts(plans: Sequence[Plan], *, color: bool = False) -> str:
    """All runs in words and drawings, and what they take together."""
    texts = [explain_text(plan, color=color) for plan in plans]
    return "\n".join([*texts, *([f"{total_line(plans)}\n"] if len(plans) > 1 else [])])


def explain_text(plan: Plan, *, color: bool = False) -> str:
    """One run in words and drawings; ends with a newline."""
    lines = [f"{plan.name}   {plan.experiment.task}   run {plan.key[:8]}", ""]
    lines += _models(plan)
    for stack in STACKS:
        if depth(plan.found.teacher.architecture, stack):
            lines += ["", *layer_lines(plan, stack, color=color)]
    lines += ["", *objective_lines(plan), *_schedules(plan), *_methods(plan), *_frozen(plan), *_extensions(plan)]
    lines += ["", *memory_lines(plan), "", *effort_lines(plan)]
    lines += signal_lines(plan)
    lines += engine_lines(plan)
    lines += ["", *_stages(plan), *_expected(plan)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def stage_states(stages: Stages, stores: Sequence[Path]) -> list[dict[str, Any]]:
    """The stages as `explain --json` shows them: id, kind, key, needs, cached. `stores`: where artifacts may be."""
    unresolved: set[str] = set()
    states: list[dict[str, Any]] = []
    for id, stage in stages.items():
        if UNRESOLVED in _inputs(stage) or unresolved & set(stage.needs.values()):
            unresolved.add(stage.key)
        known = stage.key not in unresolved
        cached = known and any(_is_stored(store, stage.key) for store in stores)
        states.append(
            {
                "id": id,
                "kind": stage.kind,
                "key": stage.key if known else UNRESOLVED,
                "needs": stages.ids(stage.needs),
                "cached": cached,
            }
        )
    return states


def _is_stored(store: Path, key: str) -> bool:
    """Is the artifact there, and not to be computed again (`--redo`)?"""
    return isfile(store / key / "manifest.json") and not exists(store / ".again" / key)


def _expected(plan: Plan) -> list[str]:
    """The published scores that the report will set beside the measured ones."""
    lines = []
    for who, expected in plan.experiment.expect.items():
        scores = ", ".join(f"{name} {value:g}" for name, value in expected.scores.items())
        within = "" if expected.within is None else f" within {expected.within:g}"
        source = "" if expected.source is None else f" ({expected.source})"
        lines.append(f"expected of the {who}: {scores}{within}{source}")
    return ["", *lines] if lines else []


def _inputs(stage: Stage) -> list[str | None]:
    """The fingerprints and commits of what a stage reads from outside the store."""
    settings = stage.settings
    if stage.kind == "teacher":
        return [settings["fingerprint"], settings["revision"]]
    if stage.kind not in ("data", "tokenizer", "pseudo-labels"):
        return []
    sources = [*settings["train"], *settings.get("validation", [])]
    sources += [source for test in settings.get("test", {}).values() for source in test]
    return [text for source in sources for text in (source["revision"], *source["fingerprints"])]


def _run(plan: Plan) -> dict[str, Any]:
    experiment, student = plan.experiment, plan.found.student
    return {
        "name": plan.name,
        "variant": experiment.variant,
        "task": experiment.task,
        "seed": experiment.seed,
        "teacher": {"model": plan.found.teacher.name, **_sizes(plan.found.teacher.architecture)},
        "student": _sizes(student.architecture, trainable_parameters=student.architecture.trainable(student.freeze)),
        "copy": {stack: _layers(student.copies.get(stack)) for stack in STACKS},
        "phi": {stack: _layers(student.phi.get(stack)) for stack in STACKS},
        "schedules": dict(stage_schedules(plan.train)),
        "methods": {id: stage.settings["method"] for id, stage in plan.stages.items() if "method" in stage.settings},
        "extensions": used_extensions(stage.settings for stage in plan.stages.values()),
        "expect": {who: asdict(expectation) for who, expectation in experiment.expect.items()},
        "stages": stage_states(plan.stages, plan.stores),
        "signals": signals_of_run(plan),
        "candidates": candidates_of_run(plan),
        "engines": engines_of_run(plan),
        "memory": forecast_memory(plan),
        "estimate": forecast_effort(plan),
    }


def _sizes(shape: Architecture, **more: int) -> dict[str, Any]:
    depths = {f"{stack}_layers": depth(shape, stack) for stack in STACKS}
    return {"family": shape.family, "parameters": shape.parameters, **more, **depths}


def _layers(found: Layers | None) -> list[int] | None:
    return None if found is None else list(found.layers)


# --- text ----------------------------------------------------------------------------------------


def _models(plan: Plan) -> list[str]:
    teacher, student = plan.found.teacher.architecture, plan.found.student.architecture
    stacks = [stack for stack in STACKS if depth(teacher, stack)]
    rows = [["", "model", "parameters", *stacks]]
    for who, name, shape in (
        ("teacher", plan.found.teacher.name, teacher),
        ("student", f"{student.family} {student.size}", student),
    ):
        rows.append([who, name, f"{shape.parameters:,}", *(f"{depth(shape, stack)} layers" for stack in stacks)])
    share = student.parameters / teacher.parameters
    return [*table(rows), f"  the student has {share:.0%} of the teacher's parameters"]


def _frozen(plan: Plan) -> list[str]:
    student = plan.found.student
    parts = ", ".join(student.freeze) or "nothing"
    trained, whole = student.architecture.trainable(student.freeze), student.architecture.parameters
    return [f"frozen: {parts}; trained: {trained:,} of {whole:,} parameters ({trained / whole:.0%})"]


def _schedules(plan: Plan) -> list[str]:
    """What changes in the loss while a model is trained, one line each."""
    lines = []
    for id, stage in plan.stages.items():
        for path, schedule in stage_schedules(stage).items():
            lines.append(_course(f"{_before(id)}loss.{path}:", schedule))
    return lines


def _course(name: str, schedule: Mapping[str, Any]) -> str:
    first, last, end = f"{schedule['initial']:g}", f"{schedule['final']:g}", schedule["end"]
    how = f"then {last} at once"
    if end is not None:
        way = "in a straight line" if schedule["shape"] == "linear" else "along a cosine"
        how = f"then {way} to {last} at {_moment(end)}"
    return f"{name} {first} until {_moment(schedule['begin'])}, {how}"


def _methods(plan: Plan) -> list[str]:
    """The ways to train, one line each, and which layers one puts into the places of others."""
    lines = []
    for id, stage in plan.stages.items():
        if (method := stage.settings.get("method")) is None:
            continue
        schedules = method.get("schedules", {})
        settings = [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                    for name, value in method["settings"].items() if name not in schedules]  # fmt: skip
        settings += [_course(name, schedule) for name, schedule in schedules.items()]
        lines.append(f"{id} by {method['name']}: {'; '.join(settings)}")
        if method["name"] != "theseus":
            continue
        for stack, groups in plan.found.student.replaces(plan.found.teacher.architecture).items():
            each = ", ".join(
                f"{own} for {group[0]}" + (f"-{group[-1]}" if len(group) > 1 else "")
                for own, group in enumerate(groups)
            )
            lines.append(f"  {stack}, layer of the student for layers of the teacher: {each}")
    return lines


def _before(id: str) -> str:
    """What tells the loss of an earlier phase from the last one's."""
    return f"{id}: " if id.startswith("train-") else ""


def stage_schedules(stage: Stage) -> Mapping[str, Any]:
    """The numbers of a stage's loss that change: path in the loss -> schedule."""
    found: Mapping[str, Any] = stage.settings.get("objective", {}).get("schedules", {})
    return found


def _moment(moment: Mapping[str, Any]) -> str:
    if moment["steps"] is not None:
        return f"step {moment['steps']}" if moment["steps"] else "the start"
    if moment["epochs"] is not None:
        return f"epoch {moment['epochs']:g}"
    return "the end" if moment["ratio"] == 1 else f"{100 * moment['ratio']:g} % of the steps"


def _extensions(plan: Plan) -> list[str]:
    """What installed packages contribute, one line each."""
    return [
        f"{WORDS[kind]} {name}: of {record['distribution']} {record['version']} ({record['sha256'][:8]})"
        for full_name, record in used_extensions(stage.settings for stage in plan.stages.values()).items()
        for kind, _, name in [full_name.partition(".")]
    ]


def _stages(plan: Plan) -> list[str]:
    rows = [["stage", "kind", "key", "", "needs"]]
    for state in stage_states(plan.stages, plan.stores):
        needs = ", ".join(sorted(set(state["needs"].values()), key=str))
        there = "in the store" if state["cached"] else "to do"
        key = state["key"] if state["key"] == UNRESOLVED else state["key"][:8]
        rows.append([state["id"], state["kind"], key, there, needs])
    return table(rows)
