"""What a plan's stages say of its models: shapes, and what a training asks of its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..estimates.workload import Teaching, teaching_of
from ..extensions.terms import stacks_of, terms_on
from ..resolve.architecture import Architecture
from ..resolve.reference import planned_architecture
from ..resolve.student import shares_encoder

Plan = Mapping[str, Any]
Stage = Mapping[str, Any]


def stage_of(plan: Plan, id: str) -> Any:
    """The stage of that id. Raises StopIteration: there is none."""
    return next(stage for stage in plan["stages"] if stage["id"] == id)


def stage_architecture(plan: Plan, id: str, task: str | None = None) -> Architecture:
    """The shape of the model that a stage of kind teacher, student or train publishes. `task`: what it is for; None:
    the plan's, or that of its training. Raises OSError or `ArchitectureError` when a model folder that the plan was
    compiled from has gone."""
    stage = stage_of(plan, id)
    settings = stage["settings"]
    if stage["kind"] == "train":
        return stage_architecture(plan, stage["needs"]["model"], settings["task"])
    if stage["kind"] == "teacher":
        return planned_architecture(stage, task or plan["task"])
    teacher = stage_architecture(plan, stage["needs"]["teacher"], task)
    return teacher.changed(settings["family"], settings["config"])


def teaching_in(plan: Plan, stage: Stage) -> Teaching | None:
    """What a training asks of its teacher; None: it has none."""
    if "teacher" not in stage["needs"]:
        return None
    teacher, objective = stage_architecture(plan, stage["needs"]["teacher"]), stage["settings"]["objective"]
    found = teaching_of(objective, teacher, shared_encoder=shares_teacher_encoder(plan, stage))
    return replace(found, resting=_resting(stage))


def _resting(stage: Stage) -> frozenset[str]:
    """The stacks of the teacher that a training does not run: it reads their states."""
    read = stage["execution"].get("signals", {})
    if "decoder" not in read:
        return frozenset()
    terms = terms_on(stage["settings"]["objective"])
    compared = "encoder" not in read and any("encoder" in stacks_of(name, settings) for name, settings in terms)
    return frozenset({"decoder"} if compared else {"decoder", "encoder"})


def shares_teacher_encoder(plan: Plan, stage: Stage) -> bool:
    """Is the encoder of the student that a training trains its teacher's own, whole and frozen?"""
    student = stage_of(plan, stage["needs"]["model"])
    if student["kind"] != "student":
        return False
    teacher = stage_architecture(plan, student["needs"]["teacher"])
    foreign = "encoder_origin" in student["needs"]
    layers, embeddings = student["settings"]["encoder"]["layers"], student["settings"]["embeddings"]
    return shares_encoder(stage["settings"]["freeze"], layers, teacher, foreign=foreign, embeddings=embeddings)
