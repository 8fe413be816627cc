"""Everything that a run needs from outside of its spec: its teacher, its data, who writes its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from ..diagnostics.diagnostic import Reporter, Trail
from ..diagnostics.record import record
from ..spec.experiment import ORIGINAL, STUDENT, Experiment, Labeller, ModelReference, Training
from ..spec.file_kinds import BASELINE_KINDS, FILE_KINDS, is_refused
from ..spec.ways import baseline_path
from .data_sources import find_file, resolve_sources
from .fingerprint import Fingerprints
from .heads import fit_head
from .machine import supports_bf16
from .reference import ResolvedModel, resolve_reference, use_of
from .scratch import resolve_scratch
from .site import Site
from .student import ResolvedStudent


@record
class ResolvedData:
    """Settings of the data stage; where all of its files are, and where the training files alone are."""

    settings: dict[str, Any]
    locations: dict[str, str]
    train_locations: dict[str, str]


@record
class ResolvedLabels:
    """Who writes the labels of one name: a model other than the teacher, the teacher (both None), or a file
    (its fingerprint and where it is)."""

    model: ResolvedModel | None
    file: tuple[str, str] | None


@record
class ResolvedRun:
    """Everything a run needs from outside of its spec, found. `precision` of the student's training,
    `teacher_precision` of the teacher's own. `baselines`: name -> test set -> the fingerprint of the file of
    predictions, and where it is."""

    data: ResolvedData
    teacher: ResolvedModel
    student: ResolvedStudent
    labels: Mapping[str, ResolvedLabels]
    precision: str
    teacher_precision: str
    baselines: Mapping[str, Mapping[str, tuple[str, str]]] = field(default_factory=dict)


def resolve_teacher(
    experiment: Experiment,
    reporter: Reporter,
    site: Site,
    memory: Fingerprints | None,
    made: Mapping[Trail, ResolvedModel],
) -> ResolvedModel | None:
    """The teacher, with the head that the task needs; None: it cannot be found."""
    teacher, use = experiment.teacher, use_of(experiment)
    found = (
        resolve_reference(teacher.reference, ("teacher",), reporter, site, memory, use, made)
        if isinstance(teacher.reference, ModelReference)
        else resolve_scratch(teacher, reporter, use)
    )
    if found is not None:
        found = fit_head(experiment, found, reporter)
    return found


def resolve_labels(
    experiment: Experiment,
    teacher: ResolvedModel | None,
    reporter: Reporter,
    site: Site,
    memory: Fingerprints | None,
    made: Mapping[Trail, ResolvedModel],
) -> tuple[dict[str, ResolvedLabels] | None, dict[str, ResolvedModel]]:
    """(who writes the labels that are used, by name, None: one of them cannot be found; the models that do,
    as far as they are known)."""
    found: dict[str, ResolvedLabels] = {}
    writers: dict[str, ResolvedModel] = {}
    complete = True
    for name in experiment.targets:
        labeller = experiment.pseudo_labels.get(name)
        if name == ORIGINAL or labeller is None:
            continue
        path = ("pseudo_labels", name)
        if labeller.file is not None:
            file = _label_file(labeller, (*path, "file"), reporter, memory)
            complete &= file is not None
            found[name] = ResolvedLabels(None, file)
            continue
        model = None
        if labeller.by is not None and labeller.by.hub == STUDENT:
            complete = False  # the rules said so
        elif labeller.by is not None:
            model = resolve_reference(
                labeller.by, (*path, "by"), reporter, site, memory, use_of(experiment), made
            )
            complete &= model is not None
        if (writer := teacher if labeller.by is None else model) is not None:
            writers[name] = writer
        found[name] = ResolvedLabels(model, None)
    return found if complete else None, writers


def _label_file(
    labeller: Labeller, path: tuple[str, ...], reporter: Reporter, memory: Fingerprints | None
) -> tuple[str, str] | None:
    assert labeller.file is not None
    if is_refused(labeller.file, FILE_KINDS):
        return None  # the rules said so
    fingerprint = find_file(labeller.file, "file of labels", path, reporter, memory)
    return None if fingerprint is None else (fingerprint, str(Path(labeller.file)))


def resolve_baselines(
    run: Experiment, reporter: Reporter, memory: Fingerprints | None
) -> dict[str, dict[str, tuple[str, str]]]:
    """Systems of others: name -> test set -> the fingerprint of the file of predictions, and where it is."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for name, baseline in run.baselines.items():
        found[name] = {}
        for test_set, place in baseline.predictions.items():
            if is_refused(place, BASELINE_KINDS):
                continue  # the rules said so
            path = baseline_path(run, name, test_set)
            if (fingerprint := find_file(place, "file of predictions", path, reporter, memory)) is not None:
                found[name][test_set] = fingerprint, place
    return found


def baseline_facts(run: Experiment) -> dict[str, dict[str, float | None]]:
    """What is known of the systems and is no score: for the table, in no key."""
    return {
        name: {
            "million_parameters": baseline.million_parameters,
            "examples_per_second": baseline.examples_per_second,
        }
        for name, baseline in run.baselines.items()
    }


def resolve_data(
    experiment: Experiment,
    teacher: ResolvedModel | None,
    reporter: Reporter,
    site: Site,
    memory: Fingerprints | None,
) -> ResolvedData:
    """The sources of a run; `teacher`: what its tokenizer puts before a source."""
    data = experiment.data
    train, train_files = resolve_sources(data.train, ("data", "train"), "train", reporter, site, memory)
    validation, files = resolve_sources(
        data.validation, ("data", "validation"), "validation", reporter, site, memory
    )
    locations = {**train_files, **files}
    test: dict[str, Any] = {}
    for name, sources in data.test.items():
        test[name], files = resolve_sources(sources, ("data", "test", name), "test", reporter, site, memory)
        locations |= files
    settings = {
        "task": experiment.task,
        "train": train,
        "validation": validation,
        "test": test,
        "columns": asdict(data.columns),
        "max_source_tokens": data.max_source_tokens,
        "max_target_tokens": data.max_target_tokens,
        "prefix": data.prefix if teacher is None else teacher.languages.prefix(data.target_language) + data.prefix,
        "source_language": data.source_language,
        "target_language": data.target_language,
        "labels": data.labels,
    }
    return ResolvedData(settings, locations, train_files)


def has_bf16(site: Site) -> bool:
    """Do its devices calculate in bf16?"""
    return site.device == "cuda" and supports_bf16(site.device_name)


def training_precision(training: Training, site: Site) -> str:
    """The precision of a training. `auto`: bf16 where the device and the optimizer have it, else fp32."""
    if training.precision != "auto":
        return training.precision
    adafactor = training.optimization.optimizer.name == "adafactor"
    return "bf16" if has_bf16(site) and not adafactor else "fp32"
