"""What a run will do, for people and for programs: shapes, layer maps, memory, stages and what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os.path import exists, isfile
from pathlib import Path
from typing import Any

from ..extensions.extension_record import plan_extensions
from ..extensions.installed import WORDS
from ..resolve.fingerprint import UNRESOLVED
from ..resolve.site import Site
from ..spec.experiment import Experiment
from .engines import engine_lines, engines_of_run
from .estimates import effort_lines, memory_lines, total_line
from .forecast import forecast_effort, forecast_memory, forecast_total
from .layers import layer_lines
from .objective import objective_lines
from .signals import candidates_of_run, signal_lines, signals_of_run
from .text_table import table

Plan = Mapping[str, Any]


def explain_json(plans: Sequence[Plan], site: Site | None = None) -> dict[str, Any]:
    """`{"version": 1, "runs": [...], "estimate": {...}}`, the latter of all runs together. The key of a stage
    with an input that could not be found out is "unresolved", and so are those of the stages that need it.
    `site` None: what its devices are is known only as far as the plans say it."""
    return {"version": 1, "runs": [_run(plan, site) for plan in plans], "estimate": forecast_total(plans, site)}


def explain_texts(
    plans: Sequence[Plan], experiments: Sequence[Experiment], site: Site | None = None, *, color: bool = False
) -> str:
    """All runs in words and drawings, and what they take together."""
    pairs = zip(plans, experiments, strict=True)
    texts = [explain_text(plan, experiment, site, color=color) for plan, experiment in pairs]
    return "\n".join([*texts, *([f"{total_line(plans, site)}\n"] if len(plans) > 1 else [])])


def explain_text(plan: Plan, experiment: Experiment, site: Site | None = None, *, color: bool = False) -> str:
    """One run in words and drawings; ends with a newline."""
    lines = [f"{plan['name']}   {plan['task']}   run {plan['key'][:8]}", ""]
    lines += _models(plan)
    for stack in ("encoder", "decoder"):
        if plan["teacher"][f"{stack}_layers"]:
            lines += ["", *layer_lines(plan, experiment, stack, color=color)]
    lines += ["", *objective_lines(plan), *_schedules(plan), *_frozen(plan), *_extensions(plan)]
    lines += ["", *memory_lines(plan, site), "", *effort_lines(plan, site)]
    lines += signal_lines(plan, site)
    lines += engine_lines(plan, site)
    lines += ["", *_stages(plan), *_expected(plan)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def stage_states(plan: Plan) -> list[dict[str, Any]]:
    """The stages as `explain --json` shows them: id, kind, key, needs, cached."""
    site = plan["site"]
    stores = [Path(site["workspace"]) / "store", *map(Path, site["shared_stores"])]
    unresolved: set[str] = set()
    states: list[dict[str, Any]] = []
    for stage in plan["stages"]:
        if UNRESOLVED in _inputs(stage) or unresolved & set(stage["needs"].values()):
            unresolved.add(stage["id"])
        known = stage["id"] not in unresolved
        cached = known and any(_is_stored(store, stage["key"]) for store in stores)
        states.append(
            {
                "id": stage["id"],
                "kind": stage["kind"],
                "key": stage["key"] if known else UNRESOLVED,
                "needs": stage["needs"],
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
    for who, expected in plan["expect"].items():
        scores = ", ".join(f"{name} {value:g}" for name, value in expected["scores"].items())
        within = "" if expected["within"] is None else f" within {expected['within']:g}"
        source = "" if expected["source"] is None else f" ({expected['source']})"
        lines.append(f"expected of the {who}: {scores}{within}{source}")
    return ["", *lines] if lines else []


def _inputs(stage: Mapping[str, Any]) -> list[str | None]:
    """The fingerprints and commits of what a stage reads from outside the store."""
    settings = stage["settings"]
    if stage["kind"] == "teacher":
        return [settings["fingerprint"], settings["revision"]]
    if stage["kind"] not in ("data", "tokenizer", "pseudo-labels"):
        return []
    sources = [*settings["train"], *settings.get("validation", [])]
    sources += [source for test in settings.get("test", {}).values() for source in test]
    return [text for source in sources for text in (source["revision"], *source["fingerprints"])]


def _run(plan: Plan, site: Site | None) -> dict[str, Any]:
    teacher, student = dict(plan["teacher"]), dict(plan["student"])
    del teacher["trainable_parameters"], student["model"]
    return {
        "name": plan["name"],
        "variant": plan["variant"],
        "task": plan["task"],
        "seed": plan["seed"],
        "teacher": teacher,
        "student": student,
        "copy": plan["copy"],
        "phi": plan["phi"],
        "schedules": next((dict(stage_schedules(stage)) for stage in plan["stages"] if stage["id"] == "train"), {}),
        "extensions": plan_extensions(plan),
        "expect": plan["expect"],
        "stages": stage_states(plan),
        "signals": signals_of_run(plan, site),
        "candidates": candidates_of_run(plan),
        "engines": engines_of_run(plan, site),
        "memory": forecast_memory(plan, site),
        "estimate": forecast_effort(plan, site),
    }


# --- text ----------------------------------------------------------------------------------------


def _models(plan: Plan) -> list[str]:
    stacks = [stack for stack in ("encoder", "decoder") if plan["teacher"][f"{stack}_layers"]]
    rows = [["", "model", "parameters", *stacks]]
    for who in ("teacher", "student"):
        facts = plan[who]
        depths = [f"{facts[f'{stack}_layers']} layers" for stack in stacks]
        rows.append([who, facts["model"], f"{facts['parameters']:,}", *depths])
    share = plan["student"]["parameters"] / plan["teacher"]["parameters"]
    return [*table(rows), f"  the student has {share:.0%} of the teacher's parameters"]


def _frozen(plan: Plan) -> list[str]:
    student = plan["student"]
    train = next(stage for stage in plan["stages"] if stage["id"] == "train")
    parts = ", ".join(train["settings"]["freeze"]) or "nothing"
    trained = student["trainable_parameters"]
    share = trained / student["parameters"]
    return [f"frozen: {parts}; trained: {trained:,} of {student['parameters']:,} parameters ({share:.0%})"]


def _schedules(plan: Plan) -> list[str]:
    """What changes in the loss while a model is trained, one line each."""
    lines = []
    for stage in plan["stages"]:
        for path, schedule in stage_schedules(stage).items():
            first, last, end = f"{schedule['initial']:g}", f"{schedule['final']:g}", schedule["end"]
            how = f"then {last} at once"
            if end is not None:
                way = "in a straight line" if schedule["shape"] == "linear" else "along a cosine"
                how = f"then {way} to {last} at {_moment(end)}"
            lines.append(f"loss.{path}: {first} until {_moment(schedule['begin'])}, {how}")
    return lines


def stage_schedules(stage: Mapping[str, Any]) -> Mapping[str, Any]:
    """The numbers of a stage's loss that change: path in the loss -> schedule."""
    found: Mapping[str, Any] = stage["settings"].get("objective", {}).get("schedules", {})
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
        for full_name, record in plan_extensions(plan).items()
        for kind, _, name in [full_name.partition(".")]
    ]


def _stages(plan: Plan) -> list[str]:
    rows = [["stage", "kind", "key", "", "needs"]]
    for state in stage_states(plan):
        needs = ", ".join(sorted(set(state["needs"].values()), key=str))
        there = "in the store" if state["cached"] else "to do"
        key = state["key"] if state["key"] == UNRESOLVED else state["key"][:8]
        rows.append([state["id"], state["kind"], key, there, needs])
    return table(rows)
