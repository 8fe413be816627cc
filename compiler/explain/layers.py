"""The layers of a run in words and drawn: what is copied, what supervises, and what decided it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..plan.plan import Plan
from ..resolve.copies import Stack
from ..resolve.copies import depth as depth_of
from ..resolve.layers import Layers
from ..spec.experiment import LayerOrigin, ModelReference
from .layer_drawing import LayerMap, draw_layers

TABLED = ("spaced", "block-ends")


def layer_lines(plan: Plan, stack: Stack, *, color: bool = False) -> list[str]:
    """One stack. A full copy that nothing supervises, or each layer its own one, is told in words alone."""
    experiment, student = plan.experiment, plan.found.student
    copies, paired = student.copies.get(stack), student.phi.get(stack)
    teacher_depth, student_depth = (
        depth_of(shape, stack) for shape in (plan.found.teacher.architecture, student.architecture)
    )
    init = getattr(experiment.student.init, stack)
    origin, foreign, depth = "the teacher", False, teacher_depth
    if isinstance(init, LayerOrigin) and init.from_ is not None:
        origin, foreign = _name(init.from_), True
        depth = depth_of(student.origins[stack].architecture, stack)
    lines = [f"{stack}: {_copy_words(init, copies, depth, student_depth, origin)}"]
    identity = list(range(teacher_depth))
    copied = None if copies is None else list(copies.layers)
    phi = None if paired is None else list(paired.layers)
    if paired is None:
        if copied != list(range(depth)):
            lines.append("  φ: none")
    else:
        words = _choice_words(getattr(experiment, f"phi_{stack}"), paired.source, teacher_depth, student_depth)
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
    phis = [stage.settings["objective"].get("phi") or {} for stage in plan.phases]
    return any(phi.get(stack) is not None for phi in phis)


def _name(reference: ModelReference) -> str:
    if reference.spec is not None:
        run = f"{Path(reference.spec).name}{f'#{reference.variant}' if reference.variant else ''}"
        return f"the {reference.model or 'student'} of {run}"
    return str(reference.hub or Path(reference.path or reference.mlflow or "another model").name)


def _copy_words(init: Any, copies: Layers | None, depth: int, student_depth: int, origin: str) -> str:
    if copies is None:
        return f"{student_depth} layers with random weights"
    if list(copies.layers) == list(range(depth)):
        return f"all {depth} layers of {origin}, in order"
    words = _choice_words(init.layers, copies.source, depth, student_depth)
    number = len(set(copies.layers))
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
