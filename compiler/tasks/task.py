"""The tasks, one row each: what their data look like, what is measured, which head their models have; and the heads,
one row each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

HeadName = Literal["lm", "masked-lm", "classification"]
TaskName = Literal["summarization", "translation", "classification", "regression", "masked-lm"]

LOSS = "loss"  # measured by every task


class Head(NamedTuple):
    """One head: the layers between the last hidden states and the logits.

    `positions`: where there are logits: at each token of the target, at each token of the source, or once for a row.
    `classes`: the logits are over the classes of a task, not over the vocabulary. `saved_with`: how the names of the
    transformers classes end whose checkpoints contain the head's weights; empty: every checkpoint does.
    """

    positions: Literal["target", "source", "row"]
    classes: bool = False
    saved_with: tuple[str, ...] = ()


HEADS: Mapping[HeadName, Head] = {
    "lm": Head(positions="target"),
    "masked-lm": Head(positions="source", saved_with=("ForMaskedLM", "ForPreTraining")),
    "classification": Head(positions="row", classes=True, saved_with=("ForSequenceClassification",)),
}


class Task(NamedTuple):
    """One task.

    `head`: a row of `HEADS`; it decides the class that transformers builds. `columns`: the keys of
    `data.columns`; `source`, `target`: those that are read and written ("": nothing is), `pair`: the keys of a task
    that can also read two texts. `measured`: the metrics of the result table; `monitor`: the one that decides what is
    best; `label_metric`: what pseudo-labels are judged by.
    `served_by`: the engine of `evaluation.exports`; None: there is none.
    `writes_texts`: a decoder writes; `has_labels`, `has_masking`: `data` has such a section. `num_outputs`: of a head
    with a fixed number of them; the targets of a task with one output are numbers.
    """

    head: HeadName
    columns: tuple[str, ...]
    source: str
    target: str
    measured: tuple[str, ...]
    monitor: str
    pair: tuple[str, str] | None = None
    label_metric: str | None = None
    served_by: Literal["ctranslate2", "onnx"] | None = None
    writes_texts: bool = False
    has_labels: bool = False
    has_masking: bool = False
    num_outputs: int | None = None


TASKS: Mapping[str, Task] = {
    "summarization": Task(
        head="lm",
        columns=("source", "target", "id"),
        source="source",
        target="target",
        measured=("rouge1", "rouge2", "rougeLsum"),
        monitor="rouge2",
        label_metric="rouge2",
        served_by="ctranslate2",
        writes_texts=True,
    ),
    "translation": Task(
        head="lm",
        columns=("source", "target", "id"),
        source="source",
        target="target",
        measured=("bleu", "chrf"),
        monitor="bleu",
        label_metric="bleu",
        served_by="ctranslate2",
        writes_texts=True,
    ),
    "classification": Task(
        head="classification",
        columns=("text", "premise", "hypothesis", "label", "id"),
        source="text",
        target="label",
        pair=("premise", "hypothesis"),
        measured=("accuracy",),
        monitor="accuracy",
        served_by="onnx",
        has_labels=True,
    ),
    "regression": Task(
        head="classification",
        columns=("text", "premise", "hypothesis", "label", "id"),
        source="text",
        target="label",
        pair=("premise", "hypothesis"),
        measured=("pearson", "spearman"),
        monitor="pearson",
        served_by="onnx",
        num_outputs=1,
    ),
    "masked-lm": Task(
        head="masked-lm",
        columns=("text", "id"),
        source="text",
        target="",
        measured=(LOSS,),
        monitor=LOSS,
        has_masking=True,
    ),
}


def column_keys(task: str, *, paired: bool) -> tuple[str, str]:
    """The keys of `data.columns` that a task reads and writes ("": nothing); `paired`: it reads two texts."""
    row = TASKS[task]
    return row.pair[0] if paired and row.pair is not None else row.source, row.target


WRITING = tuple(name for name, task in TASKS.items() if task.writes_texts)
HAVE_LABELS = tuple(name for name, task in TASKS.items() if task.has_labels)
HAVE_TARGETS = tuple(name for name, task in TASKS.items() if task.target)
HAVE_MASKING = tuple(name for name, task in TASKS.items() if task.has_masking)
LABEL_METRICS = tuple(dict.fromkeys(task.label_metric for task in TASKS.values() if task.label_metric))
