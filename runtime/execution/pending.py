"""Which stages of a plan are to be computed, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from ..plan.plan import Plan, Stage
from .store import Store

STUDENT = "train"  # the stage whose model a run hands over
EVALUATE_TEACHER = "evaluate-teacher"


def pending_stages(plan: Plan, store: Store, until: str | None) -> list[Stage]:
    """The stages to compute, in order: what is not in the store, and is handed over by the run or wanted by something
    that is not in the store."""
    stages = list(plan.stages)
    ids = [stage.id for stage in stages]
    if until in ids:
        stages = stages[: ids.index(until) + 1]
    used = {id for stage in stages for id in stage.reads.values()}
    wanted: set[str] = set()
    for stage in reversed(stages):
        if (stage.id in wanted or stage.id not in used or stage.id == STUDENT) and not store.has(stage.key):
            wanted.add(stage.id)
            wanted.update(stage.reads.values())
    return _teacher_first([stage for stage in stages if stage.id in wanted and not store.has(stage.key)])


def _teacher_first(stages: Sequence[Stage]) -> list[Stage]:
    """The teacher is evaluated as soon as it is there: what there is to learn from it is known before a student is
    trained for hours. In plans it stands beside the student's evaluation."""
    needed = {EVALUATE_TEACHER}
    for stage in reversed(stages):
        if stage.id in needed:
            needed.update(stage.needs.values())
    early = [stage for stage in stages if stage.id in needed and stage.kind in ("convert", "evaluate")]
    others = [stage for stage in stages if stage not in early]
    ready = max((number for number, stage in enumerate(others, 1) if stage.id in needed), default=0)
    return [*others[:ready], *early, *others[ready:]]
