"""A typed run -> its plan: every model resolved, every layer chosen, every stage with its key.

In: `Experiment`, the tree that it was bound from, the site. Out: the plan as plain JSON data, which
`schema/plan.schema.json` describes. What a device decides and results depend on (the precision) is decided
here and enters the keys; where and how a stage runs goes into `execution`, which does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .diagnostics import Reporter
from .experiment import Experiment, ModelReference, Training
from .fingerprint import Fingerprints
from .keys import run_key, stage_key
from .limits import check_lengths, check_offload, check_retention, choose_precision
from .placement import placement
from .reference import ResolvedModel, resolve_reference
from .scratch import resolve_scratch
from .site import Site
from .sources import resolve_sources
from .stage_settings import benchmark_settings, evaluate_settings, train_settings
from .student import STACKS, ResolvedStudent, resolve_student

FORMAT = 1


def lower(
    experiment: Experiment,
    tree: Mapping[str, Any],
    reporter: Reporter,
    site: Site,
    *,
    fingerprints: bool = True,
) -> dict[str, Any] | None:
    """The plan of a run, or None when it cannot be made: an error was reported, or, without `fingerprints`,
    a hub model is not on this machine.

    `fingerprints` False: files are looked for and not hashed, and the network is left alone; the keys of such
    a plan mean nothing.
    """
    memory = Fingerprints(site.workspace / "fingerprints.json") if fingerprints else None
    failed_before = reporter.failed
    train_sources = _data(experiment, reporter, site, memory)
    teacher = _teacher(experiment, reporter, site, memory)
    if teacher is None:
        return None
    student = resolve_student(experiment, teacher.architecture, reporter, site, memory)
    if memory is not None:
        memory.save()
    check_lengths(experiment, teacher.architecture, reporter)
    check_offload(experiment, reporter, site)
    check_retention(experiment, reporter)
    precision = choose_precision(experiment.training, (), teacher.architecture.family, reporter, site)
    own = experiment.teacher.train
    teacher_precision = "fp32"
    if own is not None:
        teacher_precision = choose_precision(own, ("teacher", "train"), teacher.architecture.family, reporter, site)
    if student is None or (reporter.failed and not failed_before):
        return None
    stages = _stages(experiment, train_sources, teacher, student, precision, teacher_precision, site)
    name = experiment.name if experiment.variant is None else f"{experiment.name}-{experiment.variant}"
    shape = student.architecture
    plan: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "variant": experiment.variant,
        "task": experiment.task,
        "seed": experiment.seed,
        "key": run_key(stages),
        "teacher": _summary(teacher.name, teacher.architecture, () if own is not None else None),
        "student": _summary(
            f"{shape.family} {shape.encoder_layers}-{shape.decoder_layers}",
            shape,
            student.freeze,
        ),
        "copy": {stack: _layers(student.copies[stack]) for stack in STACKS},
        "phi": {stack: _layers(student.phi[stack]) for stack in STACKS},
        "metrics": experiment.evaluation.metrics,
        "stages": stages,
        "site": _site(site),
        "tracking": asdict(experiment.tracking),
        "spec": tree,
        "places": reporter.all_places(),
    }
    result: dict[str, Any] = json.loads(json.dumps(plan, allow_nan=False))  # tuples are lists from here on
    return result


class _Stages(list[dict[str, Any]]):
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


def _stages(
    experiment: Experiment,
    data: tuple[dict[str, Any], dict[str, str], dict[str, str]],
    teacher: ResolvedModel,
    student: ResolvedStudent,
    precision: str,
    teacher_precision: str,
    site: Site,
) -> _Stages:
    settings, locations, train_locations = data
    task, evaluation, own = experiment.task, experiment.evaluation, experiment.teacher.train
    stages = _Stages()
    teacher_needs: dict[str, str] = {}
    if experiment.teacher.tokenizer is not None:
        tokenizer = {
            "algorithm": experiment.teacher.tokenizer.kind,
            "vocab_size": experiment.teacher.tokenizer.vocab_size,
            "family": teacher.architecture.family,
            "train": settings["train"],
            "columns": settings["columns"],
        }
        teacher_needs = {"tokenizer": stages.add("tokenizer", "tokenizer", tokenizer, locations=train_locations)}
    best = stages.add("teacher", "teacher", teacher.settings, teacher_needs, locations=dict(teacher.locations))
    rows = stages.add(
        "data", "data", settings, {"tokenizer": teacher_needs.get("tokenizer", best)}, locations=locations
    )

    def add_training(
        id: str, training: Training, seed: int, precision: str, freeze: tuple[str, ...], needs: dict[str, str]
    ) -> str:
        architecture = student.architecture if id == "train" else teacher.architecture
        trained = train_settings(task, training, seed, precision, freeze, architecture.trainable(freeze))
        return stages.add(id, "train", trained, needs, **placement(trained, architecture, site))

    def add_evaluation(id: str, model: str, settings: dict[str, Any]) -> None:
        stages.add(
            id,
            "evaluate",
            settings,
            {"model": model, "data": rows},
            micro_batch_tokens=placement(None, teacher.architecture, site)["micro_batch_tokens"],
        )

    if own is not None:
        needs = {"model": best, "data": rows}
        best = add_training("teacher-train", own, experiment.teacher.seed, teacher_precision, (), needs)
    train_needs = {"data": rows}
    retention = experiment.training.stopping.retention
    if retention:
        validation = experiment.training.validation
        id = "evaluate-teacher-validation"
        add_evaluation(
            id,
            best,
            evaluate_settings(
                task, "validation", validation.limit, sorted(retention), validation.generation, precision
            ),
        )
        train_needs["reference"] = id
    student_needs = {"teacher": best}
    for stack, origin in student.origins.items():
        student_needs[f"{stack}_origin"] = stages.add(
            f"{stack}-origin", "teacher", origin.settings, locations=dict(origin.locations)
        )
    train_needs["model"] = stages.add("student", "student", student.settings, student_needs)
    trained = add_training("train", experiment.training, experiment.seed, precision, student.freeze, train_needs)
    candidates = (
        ("teacher", best, evaluation.teacher_generation),
        ("student", trained, evaluation.generation),
    )
    for who, model, generation in candidates:
        add_evaluation(
            f"evaluate-{who}",
            model,
            evaluate_settings(task, "test", evaluation.limit, evaluation.metrics, generation, precision),
        )
    if evaluation.speed is not None:
        for who, model, generation in candidates:
            measured = benchmark_settings(task, evaluation.speed, generation, precision, site.device_name)
            stages.add(f"benchmark-{who}", "benchmark", measured, {"model": model, "data": rows})
    return stages


def _teacher(
    experiment: Experiment, reporter: Reporter, site: Site, fingerprints: Fingerprints | None
) -> ResolvedModel | None:
    teacher = experiment.teacher
    found = (
        resolve_reference(teacher.reference, ("teacher",), reporter, site, fingerprints)
        if isinstance(teacher.reference, ModelReference)
        else resolve_scratch(teacher, reporter)
    )
    if found is not None and found.architecture.family == "mbart":
        for name in ("source_language", "target_language"):
            if getattr(experiment.data, name) is None:
                reporter.error(
                    "E515",
                    ("data", name),
                    f"mbart writes the language into every sequence: data.{name} is missing",
                    f"write for example `{name}: en_XX`",
                )
    return found


def _data(
    experiment: Experiment, reporter: Reporter, site: Site, fingerprints: Fingerprints | None
) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    """(settings of the data stage, all its files, the training files)."""
    data = experiment.data
    train, train_files = resolve_sources(data.train, ("data", "train"), "train", reporter, site, fingerprints)
    validation, files = resolve_sources(
        data.validation, ("data", "validation"), "validation", reporter, site, fingerprints
    )
    locations = {**train_files, **files}
    test: dict[str, Any] = {}
    for name, sources in data.test.items():
        test[name], files = resolve_sources(sources, ("data", "test", name), "test", reporter, site, fingerprints)
        locations |= files
    settings = {
        "task": experiment.task,
        "train": train,
        "validation": validation,
        "test": test,
        "columns": asdict(data.columns),
        "max_source_tokens": data.max_source_tokens,
        "max_target_tokens": data.max_target_tokens,
        "prefix": data.prefix,
        "source_language": data.source_language,
        "target_language": data.target_language,
    }
    return settings, locations, train_files


def _summary(model: str, architecture: Any, freeze: tuple[str, ...] | None) -> dict[str, Any]:
    return {
        "model": model,
        "family": architecture.family,
        "parameters": architecture.parameters,
        "trainable_parameters": 0 if freeze is None else architecture.trainable(freeze),
        "encoder_layers": architecture.encoder_layers,
        "decoder_layers": architecture.decoder_layers,
    }


def _layers(found: Any) -> list[int] | None:
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
        "tracking": {"uri": site.tracking_uri},
    }
