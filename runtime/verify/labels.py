"""What is predicted is what the rows say: labels as names against the models' own, masked tokens against the text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

import numpy as np

from ..data.classes import FILE, names_of, read_classes
from ..data.masking import MaskedRows
from ..data.rows import Rows
from ..extensions import TASKS
from ..models.families import IGNORED
from ..models.load import model_folder
from .proof import Proof, held
from .subject import Subject


def prove_labels(subject: Subject) -> Iterator[Proof]:
    """Of the rows at hand; nothing of texts that are written: those are the targets themselves."""
    task, ids = TASKS[subject.settings.task], np.arange(len(subject.rows))
    rows = task.drawn(subject.rows, ids, subject.tokenizer, subject.settings, 0)
    if isinstance(rows, MaskedRows):
        yield from _of_masked(subject, rows)
    elif (subject.inputs["data"] / FILE).is_file():
        yield held("j", "labels are the classes that the rows name", _class_defect(subject, rows))


def _class_defect(subject: Subject, rows: Rows) -> str | None:
    """In the order of the data, and of the teacher, whose probabilities stand for the same classes."""
    orders: list[tuple[str, Sequence[str]]] = [("the data", read_classes(subject.inputs["data"]))]
    if subject.has_teacher:
        config = json.loads((model_folder(subject.teacher_folder) / "config.json").read_text("utf-8"))
        orders.append(("the teacher", names_of(config)))
    for i in range(len(rows)):
        label, name = int(rows.target(i)[0]), str(rows.raw(i)["target"])
        for whose, names in orders:
            if names and (label >= len(names) or names[label].casefold() != name.casefold()):
                stands_for = names[label] if label < len(names) else "none of its outputs"
                return f"a row of the class {name} has the label {label}, which for {whose} is {stands_for}"
    return None


def _of_masked(subject: Subject, masked: MaskedRows) -> Iterator[Proof]:
    """The rows as a step of their own."""
    special, wrong = set(subject.tokenizer.all_special_ids), None
    number = can_be = total = 0
    for i in range(len(subject.rows)):
        text, read, labels = subject.rows.source(i), masked.source(i), masked.target(i)
        predicted = labels != IGNORED
        total, number = total + len(text), number + int(predicted.sum())
        can_be += sum(int(token) not in special for token in text)
        if wrong is None and (hidden := special.intersection(map(int, text[predicted]))):
            token = subject.tokenizer.convert_ids_to_tokens(min(hidden))
            wrong = f"the special token {token} is to be predicted"
        if wrong is None and (labels[predicted] != text[predicted]).any():
            wrong = "a label is not the token that stands at its place"
        if wrong is None and (read[~predicted] != text[~predicted]).any():
            wrong = "a token is not read as it stands in the text, and is not predicted either"
    yield held("j", "masked tokens are those of the text, and no special ones", wrong)
    masking = subject.settings.masking
    assert masking is not None  # of a training of this task
    wanted = min(math.ceil(masking.share * total / 100), can_be)
    told = None if number == wanted else f"{number} of {total} tokens are predicted, and {masking.share} % are {wanted}"
    yield held("j", "as many tokens are masked as the plan says", told)
