"""The stages of a run, in order: what each does, what it needs, its key and how it runs here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .experiment import ORIGINAL, Experiment, Training
from .extension_record import with_extensions
from .keys import stage_key
from .placement import placement
from .reference import ResolvedModel
from .site import Site
from .stage_settings import (
    benchmark_settings,
    evaluate_settings,
    file_label_settings,
    label_settings,
    objective_settings,
    train_settings,
)
from .student import ResolvedStudent
from .workload import row_lengths, student_teaching


@dataclass(frozen=True)
class ResolvedData:
    """Settings of the data stage; where all of its files are, and where the training files alone are."""

    settings: dict[str, Any]
    locations: dict[str, str]
    train_locations: dict[str, str]


@dataclass(frozen=True)
class ResolvedLabels:
    """Who writes the labels of one name: a model other than the teacher, the teacher (both None), or a file
    (its fingerprint and where it is)."""

    model: ResolvedModel | None
    file: tuple[str, str] | None


@dataclass(frozen=True)
class ResolvedRun:
    """Everything a run needs from outside of its spec, found. `precision` of the student's training,
    `teacher_precision` of the teacher's own."""

    data: ResolvedData
    teacher: ResolvedModel
    student: ResolvedStudent
    labels: Mapping[str, ResolvedLabels]
    precision: str
    teacher_precision: str


class Stages(list[dict[str, Any]]):
    """The stages so far, in order; each gets its key from those it needs."""

    def add(
        self,
        id: str,
        kind: str,
        settings: Mapping[str, Any],
        needs: Mapping[str, str] | None = None,
        **execution: Any,
    ) -> str:
        keys = {stage["id"]: stage["key"] for stage in self}
        needs = dict(needs or {})
        settings = with_extensions(kind, settings, [stage for stage in self if stage["id"] in needs.values()])
        self.append(
            {
                "id": id,
                "kind": kind,
                "key": stage_key(kind, settings, {role: keys[needed] for role, needed in needs.items()}),
                "needs": needs,
                "settings": dict(settings),
                "execution": {
                    "locations": {},
                    "micro_batch_tokens": None,
                    "save_minutes": None,
                    "deepspeed": None,
                    **execution,
                },
            }
        )
        return id


def build_stages(experiment: Experiment, found: ResolvedRun, site: Site) -> Stages:
    """The stages of a run. A stage that another run has with the same settings and needs has the same key."""
    stages = Stages()
    tokenizer, best = _teacher_stages(stages, experiment, found)
    rows = stages.add("data", "data", found.data.settings, {"tokenizer": tokenizer}, locations=found.data.locations)
    teacher, student = found.teacher, found.student
    task, evaluation, own = experiment.task, experiment.evaluation, experiment.teacher.train

    def add_evaluation(id: str, model: str, settings: dict[str, Any]) -> None:
        tokens = placement(None, teacher.architecture, site)["micro_batch_tokens"]
        stages.add(id, "evaluate", settings, {"model": model, "data": rows}, micro_batch_tokens=tokens)

    if own is not None:
        trained = train_settings(
            experiment,
            own,
            experiment.teacher.seed,
            found.teacher_precision,
            (),
            teacher.architecture.trainable(()),
            objective_settings(own.loss, None),
        )
        best = stages.add(
            "teacher-train",
            "train",
            trained,
            {"model": best, "data": rows},
            **placement(trained, teacher.architecture, site, lengths=row_lengths(experiment)),
        )
    needs = {"data": _target_stages(stages, experiment, found, rows, best)}
    retention = experiment.training.stopping.retention
    if retention:
        validation = experiment.training.validation
        needs["reference"] = "evaluate-teacher-validation"
        add_evaluation(
            needs["reference"],
            best,
            evaluate_settings(
                task, "validation", validation.limit, sorted(retention), validation.generation, found.precision
            ),
        )
    needs["model"] = _student_stages(stages, student, best)
    if experiment.training.loss.needs_teacher:
        needs["teacher"] = best
    trained_student = _student_training(stages, experiment, experiment.training, found, needs, site)
    candidates = (
        ("teacher", best, evaluation.teacher_generation),
        ("student", trained_student, evaluation.generation),
    )
    for who, model, generation in candidates:
        add_evaluation(
            f"evaluate-{who}",
            model,
            evaluate_settings(task, "test", evaluation.limit, evaluation.metrics, generation, found.precision),
        )
    if evaluation.speed is not None:
        for who, model, generation in candidates:
            measured = benchmark_settings(task, evaluation.speed, generation, found.precision, site.device_name)
            stages.add(f"benchmark-{who}", "benchmark", measured, {"model": model, "data": rows})
    return stages


def _teacher_stages(stages: Stages, experiment: Experiment, found: ResolvedRun) -> tuple[str, str]:
    """(the stage with the tokenizer, the stage with the teacher)."""
    needs: dict[str, str] = {}
    trained = experiment.teacher.tokenizer
    if trained is not None:
        settings = {
            "algorithm": trained.kind,
            "vocab_size": trained.vocab_size,
            "family": found.teacher.architecture.layout,  # sequences are laid out so
            "train": found.data.settings["train"],
            "columns": found.data.settings["columns"],
        }
        needs = {"tokenizer": stages.add("tokenizer", "tokenizer", settings, locations=found.data.train_locations)}
    teacher = stages.add("teacher", "teacher", found.teacher.settings, needs, locations=dict(found.teacher.locations))
    return needs.get("tokenizer", teacher), teacher


def _target_stages(stages: Stages, experiment: Experiment, found: ResolvedRun, rows: str, teacher: str) -> str:
    """The stage with the rows that the student is trained on: the data's own, or a mix with labels."""
    if experiment.targets == (ORIGINAL,):
        return rows
    needs = {"data": rows}
    for name in experiment.targets:
        if name == ORIGINAL or name not in found.labels:
            continue  # a name that is nobody's was reported
        labeller, resolved = experiment.pseudo_labels[name], found.labels[name]
        id = f"labels-{name}"
        if resolved.file is not None:
            fingerprint, place = resolved.file
            settings = file_label_settings(labeller, fingerprint, found.data.settings)
            stages.add(id, "pseudo-labels", settings, locations={fingerprint: place, **found.data.train_locations})
        else:
            model = teacher
            if resolved.model is not None:
                model = stages.add(
                    f"labeller-{name}", "teacher", resolved.model.settings, locations=dict(resolved.model.locations)
                )
            settings = label_settings(labeller, found.data.settings, found.precision)
            stages.add(id, "pseudo-labels", settings, {"model": model}, locations=found.data.train_locations)
        needs[f"labels.{name}"] = id
    mixed = {"targets": list(experiment.targets), "max_target_tokens": experiment.data.max_target_tokens}
    return stages.add("targets", "targets", mixed, needs)


def _student_stages(stages: Stages, student: ResolvedStudent, teacher: str) -> str:
    needs = {"teacher": teacher}
    for stack, origin in student.origins.items():
        needs[f"{stack}_origin"] = stages.add(
            f"{stack}-origin", "teacher", origin.settings, locations=dict(origin.locations)
        )
    return stages.add("student", "student", student.settings, needs)


def _student_training(
    stages: Stages,
    experiment: Experiment,
    training: Training,
    found: ResolvedRun,
    needs: dict[str, str],
    site: Site,
) -> str:
    student = found.student
    settings = train_settings(
        experiment,
        training,
        experiment.seed,
        found.precision,
        student.freeze,
        student.architecture.trainable(student.freeze),
        objective_settings(training.loss, {str(stack): layers for stack, layers in student.phi.items()}),
    )
    teaching = None
    if "teacher" in needs:
        teaching = student_teaching(settings["objective"], found.teacher.architecture, student)
    run = placement(settings, student.architecture, site, lengths=row_lengths(experiment), teaching=teaching)
    return stages.add("train", "train", settings, needs, **run)
