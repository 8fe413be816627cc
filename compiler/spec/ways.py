"""Ways through a run: its trainings, generations and data sources, each with its path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..diagnostics.diagnostic import Trail
from .experiment import Data, DataSource, Experiment, Generation, Training

Tree = Mapping[str, Any]

OF_VALIDATION: Trail = ("validation", "generation")
TEXT_ONLY: tuple[Trail, ...] = (
    # keys that mean nothing where no text is written
    ("data", "max_target_tokens"),
    ("data", "source_language"),
    ("data", "target_language"),
    ("data", "prefix"),
    ("evaluation", "generation"),
    ("evaluation", "teacher_generation"),
    OF_VALIDATION,
    ("teacher", "train", "validation", "generation"),
)


def trainings(run: Experiment) -> list[tuple[Trail, Training]]:
    """The student's training and, if there is one, the teacher's, with their paths."""
    trainings: list[tuple[Trail, Training]] = [((), run.training)]
    if run.teacher.train is not None:
        trainings.append((("teacher", "train"), run.teacher.train))
    return trainings


def generations(run: Experiment) -> list[tuple[Trail, Generation]]:
    found: list[tuple[Trail, Generation]] = [
        ((*path, "validation", "generation"), part.validation.generation) for path, part in trainings(run)
    ]
    found.append((("evaluation", "generation"), run.evaluation.generation))
    found.append((("evaluation", "teacher_generation"), run.evaluation.teacher_generation))
    for name, labeller in run.pseudo_labels.items():
        found.append((("pseudo_labels", name, "generation"), labeller.generation))
    return found


def data_sources(data: Data) -> list[tuple[Trail, DataSource]]:
    """Every data source of a run, with its path."""
    splits: dict[Trail, tuple[DataSource, ...]] = {
        ("data", "train"): data.train,
        ("data", "validation"): data.validation,
        **{("data", "test", name): sources for name, sources in data.test.items()},
    }
    return [((*path, i), source) for path, sources in splits.items() for i, source in enumerate(sources)]


def baseline_path(run: Experiment, name: str, test_set: str) -> Trail:
    """Where a spec names the file of a test set: by it, or, where there is one file, alone."""
    path: Trail = ("baselines", name, "predictions")
    return (*path, test_set) if run.baselines[name].by_test_set else path
