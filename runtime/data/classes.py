"""The classes of a classification, by name: of the data, of the model, of the spec.

Numbers of classes mean nothing outside of who counts: GLUE has entailment first, bart-large-mnli last (domain facts 8).
So a label of the data is a name, or a number that the spec's `data.labels` gives a name to, and the order of the
model's outputs is the model's own, where it has names.

    classes.json   beside the token rows: the names in the order of the outputs
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..failure import Failure

FILE = "classes.json"
UNLABELLED = "-1"  # what the hub's data sets have where a label is not public


class Classes:
    """The classes of a task. `outputs`: their names in the order of the model's outputs; `counted`: in the order of the
    spec, by which a number in the data is a name (None: numbers mean nothing)."""

    def __init__(self, outputs: Sequence[str], counted: Sequence[str] | None) -> None:
        self.outputs = tuple(outputs)
        self._counted = counted
        self._index = {name.casefold(): i for i, name in enumerate(self.outputs)}

    def index(self, label: str, where: str) -> int:
        """The output of a label of the data, a name in any case or a number.

        Raises `Failure` R207: there is no such class, or none at all."""
        known = self._index.get(label.strip().casefold())
        if known is not None:
            return known
        if label == UNLABELLED:
            raise _failure(
                f"{where} has no label: it is {label}",
                "the labels of this set are not public: take another, or another split",
            )
        if label.isdecimal() and self._counted is not None and int(label) < len(self._counted):
            return self._index[self._counted[int(label)].casefold()]
        if label.isdecimal() and self._counted is None:
            raise _failure(
                f"the label of {where} is the number {label}, and the classes have names: {_listed(self.outputs)}",
                "say what the numbers of the data mean: `data.labels`, the names in the order in which the data counts",
            )
        raise _failure(
            f"the label of {where} is {label!r}, which is none of the {len(self.outputs)} classes "
            f"{_listed(self.outputs)}",
            "correct the row, or name all classes of the data in `data.labels`",
        )


def classes_of(labels: Sequence[str] | None, folder: Path) -> Classes:
    """Those of a spec with these `data.labels`, for the model in a folder, if there is one.

    A model that has names for the classes of the spec keeps its order. Where it has other names, or none, the spec's
    order is that of the outputs: its head is trained for them. Raises `Failure` R207: nobody names them."""
    named = _named_by(folder)
    if labels is not None and len({name.casefold() for name in labels}) < len(labels):
        raise _failure(f"two of the classes {_listed(labels)} have one name", "write each once")
    if labels is None and not named:
        raise _failure(
            "neither the spec nor the model says what the classes are called",
            "write `data: {labels: [...]}`, in the order of the model's outputs",
        )
    if labels is None or same_names(labels, named):
        return Classes(named, labels)
    return Classes(labels, labels)


def same_names(some: Sequence[str], others: Sequence[str]) -> bool:
    """Are these the same names, in whatever order?"""
    return sorted(name.casefold() for name in some) == sorted(name.casefold() for name in others)


def write_classes(folder: Path, classes: Classes) -> None:
    text = json.dumps(classes.outputs, ensure_ascii=False, allow_nan=False)
    (folder / FILE).write_text(text + "\n", "utf-8")


def read_classes(folder: Path) -> tuple[str, ...]:
    """The names of the classes of a data artifact, in the order of the outputs."""
    return tuple(json.loads((folder / FILE).read_text("utf-8")))


def name_outputs(config: Any, names: Sequence[str]) -> None:
    """Let a model's config call its outputs so."""
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}


def require_names(config: Any, names: Sequence[str], model: str, *, retrained: bool = False) -> None:
    """Raises `Failure` R207: the outputs of a model stand for other classes than those of the data, or in another
    order. `retrained`: other classes are what it is trained for."""
    found = names_of({"id2label": config.id2label})
    if not found or [name.casefold() for name in found] == [name.casefold() for name in names]:
        return
    if not retrained or same_names(found, names):
        raise _failure(
            f"the outputs of {model} are {_listed(found)}, and the classes of the data {_listed(names)}",
            "name the model's classes in `data.labels`, or train the teacher for these: `teacher: {train: {}}`",
        )


def names_of(config: Mapping[str, Any]) -> list[str]:
    """The names of the outputs that a config.json has, in their order; empty: it has none, or only numbers
    (LABEL_0)."""
    named = config.get("id2label")
    if not isinstance(named, Mapping) or not all(str(key).isdecimal() for key in named):
        return []
    names = [str(named[key]) for key in sorted(named, key=lambda key: int(str(key)))]
    return [] if any(name.upper().startswith("LABEL_") for name in names) else names


def _named_by(folder: Path) -> list[str]:
    """Of the model beside a tokenizer; empty: there is none, it has no head over classes, or no names for them."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return []
    classifies = any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ())
    return names_of(config) if classifies else []


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _failure(message: str, hint: str) -> Failure:
    return Failure("R207", message, hint, spec_path="data.labels")
