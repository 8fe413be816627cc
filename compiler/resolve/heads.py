"""The head of a teacher against the data: its number of classes, their order, and whether the checkpoint has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..diagnostics.diagnostic import Reporter, listed
from ..spec.experiment import Experiment
from ..tasks.task import HEADS, TASKS, HeadName
from .model_config import labels_of
from .reference import ResolvedModel, use_of


def fit_head(experiment: Experiment, teacher: ResolvedModel, reporter: Reporter) -> ResolvedModel:
    """The teacher with the head that the task needs. A head that its checkpoint does not have is drawn with
    `teacher.seed`.

    Reports E534 (other classes than `data.labels`, or another number), W531 (the same labels in another order),
    W532 (a head that is drawn and never trained).
    """
    if teacher.made is not None or teacher.settings["kind"] == "architecture":
        return teacher
    head = TASKS[experiment.task].head
    labels = experiment.data.labels if TASKS[experiment.task].has_labels else None
    wanted = use_of(experiment).num_labels
    trained = experiment.teacher.train is not None
    place = ("teacher", "path" if teacher.settings["kind"] == "folder" else "hub")
    drawn = not has_head(teacher.config, head)
    if HEADS[head].classes and not drawn and wanted:
        named = label_names(teacher.config)
        if _num_classes(teacher.config) not in (None, wanted):
            drawn = True
            if not trained:
                needed = f"there are {wanted} labels" if labels else f"a {experiment.task} has one output"
                mend = "name as many" if labels else "name a model with one"
                reporter.error(
                    "E534",
                    ("data", "labels") if labels else place,
                    f"{needed}, and the teacher's head has {labels_of(teacher.config)} classes"
                    + (f": {listed(named, 'and')}" if named else ""),
                    f"{mend}, or add `train: {{}}` to the teacher: it then gets a new head for them",
                    because=[("teacher",)] if labels else [("task",)],
                )
        elif labels is None:
            pass  # one output needs no name
        elif not trained and named and not _are_alike(named, labels):
            reporter.error(
                "E534",
                ("data", "labels"),
                f"the labels are {listed(labels, 'and')}, and the outputs of the teacher are {listed(named, 'and')}",
                f"write `labels: [{', '.join(named)}]`, or add `train: {{}}` to the teacher: it then learns yours",
                because=[("teacher",)],
            )
        elif not trained and _is_another_order(named, labels):
            reporter.warning(
                "W531",
                ("data", "labels"),
                f"the teacher's outputs have these labels in another order: {listed(named, 'and')}",
                f"write `labels: [{', '.join(named)}]`",
                because=[("teacher",)],
            )
    elif drawn and not trained:
        reporter.warning(
            "W532",
            place,
            f"the checkpoint is a {teacher.config['architectures'][0]}: for {experiment.task} it gets a head with "
            "random weights",
            "add `train: {}` to the teacher, or name a checkpoint that was trained for the task",
            because=[("task",), ("teacher", "train")],
        )
    return replace(teacher, settings={**teacher.settings, "seed": experiment.teacher.seed}) if drawn else teacher


def as_origin(experiment: Experiment, model: ResolvedModel) -> ResolvedModel:
    """A model that layers are taken from. A head of another task, or over other classes, is drawn, and copied nowhere.
    """
    if model.made is not None:
        return model
    head, wanted = TASKS[experiment.task].head, use_of(experiment).num_labels
    others = HEADS[head].classes and wanted is not None and _num_classes(model.config) not in (None, wanted)
    if has_head(model.config, head) and not others:
        return model
    return replace(model, settings={**model.settings, "seed": experiment.teacher.seed})


def has_head(config: Mapping[str, Any], head: HeadName) -> bool:
    """Was the checkpoint saved with the head? A config that does not say so is taken at its best."""
    classes = config.get("architectures")
    if not HEADS[head].saved_with or not isinstance(classes, list) or not classes:
        return True
    return any(str(name).endswith(HEADS[head].saved_with) for name in classes)


def _num_classes(config: Mapping[str, Any]) -> int | None:
    """The number of classes of the checkpoint's head; None: its config does not say."""
    return labels_of(config) if config.get("num_labels") or config.get("id2label") else None


def label_names(config: Mapping[str, Any]) -> list[str]:
    """The labels in the order of the outputs; empty: not known, or only numbered (LABEL_0)."""
    named = config.get("id2label")
    if not isinstance(named, Mapping) or not all(str(key).isdecimal() and len(str(key)) < 10 for key in named):
        return []
    names = [str(named[key]) for key in sorted(named, key=lambda key: int(str(key)))]
    return [] if any(name.upper().startswith("LABEL_") for name in names) else names


def _is_another_order(named: list[str], labels: tuple[str, ...]) -> bool:
    ours, theirs = ([name.casefold() for name in names] for names in (labels, named))
    return ours != theirs and _are_alike(named, labels)


def _are_alike(named: list[str], labels: tuple[str, ...]) -> bool:
    ours, theirs = (sorted(name.casefold() for name in names) for names in (labels, named))
    return ours == theirs
