"""The layers of a run in words and drawn: what is copied, what supervises, and what decided it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..plan.plan_models import stage_architecture, stage_of
from ..resolve.layers import choose_copies, choose_phi
from ..spec.experiment import Experiment, LayerOrigin, ModelReference
from .layer_drawing import LayerMap, draw_layers

Plan = Mapping[str, Any]
TABLED = ("spaced", "block-ends")


def layer_lines(plan: Plan, experiment: Experiment, stack: str, *, color: bool = False) -> list[str]:
    """One stack. A full copy that nothing supervises, or each layer its own one, is told in words alone."""
    copied, phi = plan["copy"][stack], plan["phi"][stack]
    teacher_depth, student_depth = (plan[who][f"{stack}_layers"] for who in ("teacher", "student"))
    init = getattr(experiment.student.init, stack)
    origin, foreign, depth = "the teacher", False, teacher_depth
    if isinstance(init, LayerOrigin) and init.from_ is not None:
        origin, foreign = _name(init.from_), True
        made_of = stage_of(plan, "student")["needs"][f"{stack}_origin"]
        depth = getattr(stage_architecture(plan, made_of), f"{stack}_layers")
    lines = [f"{stack}: {_copy_words(init, copied, depth, student_depth, origin)}"]
    identity = list(range(teacher_depth))
    if phi is None:
        if copied != list(range(depth)):
            lines.append("  φ: none")
    else:
        choice = getattr(experiment, f"phi_{stack}")
        decided = choose_phi(teacher_depth, student_depth, choice, None if foreign else copied)
        words = _choice_words(choice, decided.source, teacher_depth, student_depth)
        if phi == identity:
            words = "each layer learns from the teacher's own one"
        lines.append(f"  φ: {words}{'' if _is_used(plan, stack) else '; no term of the loss uses it'}")
    if copied == list(range(depth)) and phi in (None, identity):
        return lines
    layers = LayerMap(
        origin=origin,
        origin_depth=depth,
        teacher_depth=teacher_depth,
        copied=copied,
        phi=phi,
        foreign=foreign,
    )
    drawn = draw_layers(layers, color=color)
    return [*lines, *(["", *drawn, _legend(layers, _is_used(plan, stack))] if drawn else [])]


def _legend(layers: LayerMap, used: bool) -> str:
    copies = ["├──▶ is copied to"] if layers.copied is not None else []
    arrow, learns = "┄┄▶" if layers.foreign else "◀┄┄", "learns from" if used else "would learn from"
    words = f"{arrow} {learns}" if layers.foreign else f"{arrow} is what it {learns}"
    phi = [words] if layers.phi is not None else []
    return f"  {'   '.join([*copies, *phi])}"


def _is_used(plan: Plan, stack: str) -> bool:
    """Does a term of the student's loss pair the layers of the stack?"""
    train = next(stage for stage in plan["stages"] if stage["id"] == "train")
    used = train["settings"]["objective"].get("phi") or {}
    return used.get(stack) is not None


def _name(reference: ModelReference) -> str:
    if reference.spec is not None:
        run = f"{Path(reference.spec).name}{f'#{reference.variant}' if reference.variant else ''}"
        return f"the {reference.model or 'student'} of {run}"
    return str(reference.hub or Path(reference.path or reference.mlflow or "another model").name)


def _copy_words(init: Any, copied: Sequence[int] | None, depth: int, student_depth: int, origin: str) -> str:
    if copied is None:
        return f"{student_depth} layers with random weights"
    if list(copied) == list(range(depth)):
        return f"all {depth} layers of {origin}, in order"
    decided = choose_copies(depth, student_depth, init.layers)
    words = _choice_words(init.layers, decided.source, depth, student_depth)
    number = len(set(copied))
    if number < student_depth:
        return f"{student_depth} copies of {number} of the {depth} layers of {origin}, {words}"
    return f"{number} of {depth} layers of {origin}, {words}"


def _choice_words(choice: Any, source: str, depth: int, student_depth: int) -> str:
    """What a choice of layers is called, and what decided it."""
    if not isinstance(choice, str):
        return "as listed"
    words = {
        "table": f"by the published table for {depth} -> {student_depth}",
        "formula": "by formula (no published table has the pair)" if choice in TABLED else "by rule",
        "explicit": "by the layers that were copied",
    }
    return f"{choice}: {words[source]}"
