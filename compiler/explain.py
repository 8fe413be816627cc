"""What a run will do, for people and for programs: shapes, layer maps, memory, stages and what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .experiment import Experiment, LayerOrigin
from .fingerprint import UNRESOLVED
from .forecast import forecast_effort, forecast_memory, stage_architecture
from .layers import choose_copies, choose_phi

Plan = Mapping[str, Any]
TABLED = ("spaced", "block-ends")
_MEMORY = ("weights", "gradients", "optimizer", "activations", "logits", "workspace", "total")


def explain_json(plans: Sequence[Plan]) -> dict[str, Any]:
    """`{"version": 1, "runs": [...]}`. The key of a stage with an input that could not be found out is
    "unresolved", and so are those of the stages that need it."""
    return {"version": 1, "runs": [_run(plan) for plan in plans]}


def explain_text(plan: Plan, experiment: Experiment) -> str:
    """One run in words and drawings; ends with a newline."""
    lines = [f"{plan['name']}   {plan['task']}   run {plan['key'][:8]}", ""]
    lines += _models(plan)
    for stack in ("encoder", "decoder"):
        lines += ["", *_layer_map(plan, experiment, stack)]
    lines += ["", *_frozen(plan), "", *_memory(plan), "", *_stages(plan)]
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
        cached = known and any((store / stage["key"] / "manifest.json").is_file() for store in stores)
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


def _inputs(stage: Mapping[str, Any]) -> list[str | None]:
    """The fingerprints and commits of what a stage reads from outside the store."""
    settings = stage["settings"]
    if stage["kind"] == "teacher":
        return [settings["fingerprint"], settings["revision"]]
    if stage["kind"] not in ("data", "tokenizer"):
        return []
    sources = [*settings["train"], *settings.get("validation", [])]
    sources += [source for test in settings.get("test", {}).values() for source in test]
    return [text for source in sources for text in (source["revision"], *source["fingerprints"])]


def _run(plan: Plan) -> dict[str, Any]:
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
        "stages": stage_states(plan),
        "memory": forecast_memory(plan),
        "estimate": forecast_effort(plan),
    }


# --- text ----------------------------------------------------------------------------------------


def _models(plan: Plan) -> list[str]:
    rows = [["", "model", "parameters", "encoder", "decoder"]]
    for who in ("teacher", "student"):
        facts = plan[who]
        rows.append(
            [
                who,
                facts["model"],
                f"{facts['parameters']:,}",
                f"{facts['encoder_layers']} layers",
                f"{facts['decoder_layers']} layers",
            ]
        )
    share = plan["student"]["parameters"] / plan["teacher"]["parameters"]
    return [*_table(rows), f"  the student has {share:.0%} of the teacher's parameters"]


def _layer_map(plan: Plan, experiment: Experiment, stack: str) -> list[str]:
    """A line for each teacher layer: the student layers that are its copies, and those it supervises."""
    copied, phi = plan["copy"][stack], plan["phi"][stack]
    teacher_depth, student_depth = (plan[who][f"{stack}_layers"] for who in ("teacher", "student"))
    init = getattr(experiment.student.init, stack)
    foreign = isinstance(init, LayerOrigin) and init.from_ is not None
    source_depth = teacher_depth
    if foreign:
        source_depth = getattr(stage_architecture(plan, f"{stack}-origin"), f"{stack}_layers")
    lines = [f"{stack}: {_copy_words(init, copied, source_depth, student_depth, foreign)}"]
    if phi is None and stack == "encoder":
        lines.append("  φ: none, it is as deep as the teacher's")
    elif phi is not None:
        choice = getattr(experiment, f"phi_{stack}")
        decided = choose_phi(teacher_depth, student_depth, choice, None if foreign else copied)
        lines.append(f"  φ: {_choice_words(choice, decided.source, teacher_depth, student_depth)}")
    if phi is None and copied == list(range(source_depth)):
        return lines
    lines.append("  layer of the " + ("origin" if foreign else "teacher") + "    copied to    supervises")
    for layer in range(max(source_depth, teacher_depth)):
        copies = _arrow("──▶", [i for i, origin in enumerate(copied or []) if origin == layer])
        taught = _arrow("┄┄▶", [i for i, target in enumerate(phi or []) if target == layer])
        lines.append(f"  {layer:>16}    {copies:<9}    {taught}")
    return lines


def _arrow(arrow: str, layers: list[int]) -> str:
    return f"{arrow} {', '.join(map(str, layers))}" if layers else ""


def _copy_words(init: Any, copied: list[int] | None, depth: int, student_depth: int, foreign: bool) -> str:
    if copied is None:
        return f"{student_depth} layers with random weights"
    decided = choose_copies(depth, student_depth, init.layers)
    origin = "another model" if foreign else "the teacher"
    if copied == list(range(depth)):
        return f"all {depth} layers of {origin}, in order"
    words = _choice_words(init.layers, decided.source, depth, student_depth)
    return f"{student_depth} of {depth} layers of {origin}, {words}"


def _choice_words(choice: Any, source: str, depth: int, student_depth: int) -> str:
    if not isinstance(choice, str):
        return "as listed"
    words = {
        "table": f"by the published table for {depth} -> {student_depth}",
        "formula": "by formula (no published table has the pair)" if choice in TABLED else "by rule",
        "explicit": "by the layers that were copied",
    }
    return f"{choice}: {words[source]}"


def _frozen(plan: Plan) -> list[str]:
    student = plan["student"]
    train = next(stage for stage in plan["stages"] if stage["id"] == "train")
    parts = ", ".join(train["settings"]["freeze"]) or "nothing"
    trained = student["trainable_parameters"]
    share = trained / student["parameters"]
    return [f"frozen: {parts}; trained: {trained:,} of {student['parameters']:,} parameters ({share:.0%})"]


def _memory(plan: Plan) -> list[str]:
    rows = [["", *_MEMORY, "ZeRO", "micro-batch"]]
    for id, table in forecast_memory(plan).items():
        sizes = [f"{table[f'{name}_gb']:.2f}" for name in _MEMORY]
        rows.append([id, *sizes, str(table["zero"]), f"{table['micro_batch_tokens']} tokens"])
    site = plan["site"]
    number = site["nodes"] * site["per_node"]
    return [f"memory of one device in GiB, estimated ({number} on {site['device']})", *_table(rows)]


def _stages(plan: Plan) -> list[str]:
    rows = [["stage", "kind", "key", "", "needs"]]
    for state in stage_states(plan):
        needs = ", ".join(sorted(set(state["needs"].values()), key=str))
        there = "in the store" if state["cached"] else "to do"
        key = state["key"] if state["key"] == UNRESOLVED else state["key"][:8]
        rows.append([state["id"], state["kind"], key, there, needs])
    return _table(rows)


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  " + "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
