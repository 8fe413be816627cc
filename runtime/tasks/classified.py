"""Classes that a model chooses: held against the labels, in an evaluation and in a training.

predictions.<test set>.jsonl  {id, source, hypothesis of a pair, reference, prediction, probabilities: {class: p}}
confusion.<test set>.csv/png  how often each class was taken for each (`confusion.py`)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.classes import read_classes, require_names
from ..data.rows import Rows
from ..execution.context import Context
from ..messages.notices import Notice
from ..metrics.classes import majority
from ..metrics.score import needing, score, score_loss
from ..models.load import load_tokenizer, model_folder
from ..plan.plan import Stage
from ..plan.settings import EvaluateSettings
from ..protocol import Task, Validation
from .confusion import confusion, write_confusion
from .row_logits import Logits, evaluated_model, evaluation_logits, validation_logits, write_predictions


class Evaluation:
    """Of the model of an `evaluate` stage; `protocol.Evaluation` says what the methods are."""

    account = ""

    def __init__(self, task: Task, stage: Stage, context: Context) -> None:
        """Raises `Failure` R207: the model's outputs stand for other classes than those of the data."""
        self._task, self._stage, self._context = task, stage, context
        self._settings: EvaluateSettings = stage.settings
        self._names = read_classes(context.inputs["data"])
        self._trained = Rows.open(context.inputs["data"], "train")
        self._of_labels = needing(self._settings.metrics, "labels")
        folder = model_folder(context.inputs["model"])
        self._pad_id = load_tokenizer(folder).pad_token_id
        self._model = evaluated_model(self._settings, context)
        require_names(self._model.config, self._names, f"the model in {folder}")

    def scores(self, rows: Rows, num_examples: int, name: str) -> dict[str, Any]:
        context, metrics = self._context, self._settings.metrics
        ids = np.arange(num_examples)
        logits = evaluation_logits(self._task, self._model, rows, ids, self._pad_id, context, f"classifying {name}")
        labels = labels_of(rows, ids)
        scores: dict[str, Any] = {}
        if self._of_labels:
            predictions, references = ([self._names[i] for i in side] for side in (logits.argmax(axis=1), labels))
            scores = score(self._of_labels, predictions, references, self._settings.scoring)
        if of_loss := needing(metrics, "loss"):
            scores |= score_loss(of_loss, mean_loss(logits, labels))
        if context.is_rank_zero:
            self._write(rows, logits, labels, name)
        return {metric: scores[metric] for metric in metrics if metric in scores}

    def baselines(self, rows: Rows, num_examples: int) -> dict[str, dict[str, Any]]:
        """The most frequent class of the training rows, for every row."""
        if not self._of_labels:
            return {}
        trained, references = (
            [self._names[i] for i in labels_of(of, np.arange(number))]
            for of, number in ((self._trained, len(self._trained)), (rows, num_examples))
        )
        return {"majority": majority(trained, references, self._of_labels)}

    def notices(self, scores: Mapping[str, Any], baselines: Mapping[str, Mapping[str, Any]]) -> Iterator[Notice]:
        for name, found in scores.items():
            majority = baselines.get("majority", {}).get(name, {})
            if self._stage.id != "evaluate-teacher" or "accuracy" not in majority:
                continue
            ours, theirs = (of["accuracy"]["value"] for of in (found, majority))
            if ours <= theirs:
                yield Notice(
                    "R365",
                    f"on {name} the teacher's accuracy is {ours:.2f}, and that of the majority baseline, the most "
                    f"frequent class for every row, is {theirs:.2f}",
                    "a student learns what its teacher can: stop here, and train the teacher longer "
                    "(`teacher.train`), or take another; are its outputs in the order of `data.labels`?",
                    "teacher",
                )

    def _write(self, rows: Rows, logits: Logits, labels: NDArray[np.int64], name: str) -> None:
        folder, names = self._context.folder, self._names
        answers = (
            {
                "reference": names[labels[i]],
                "prediction": names[row.argmax()],
                "probabilities": {of: round(float(share), 6) for of, share in zip(names, shares, strict=True)},
            }
            for i, (row, shares) in enumerate(zip(logits, probabilities(logits), strict=True))
        )
        write_predictions(folder / f"predictions.{name}.jsonl", rows, answers)
        counts = confusion(labels, logits.argmax(axis=1), len(names))
        write_confusion(folder / f"confusion.{name}.csv", names, counts)


# --- in a training ---------------------------------------------------------------------------------


def validate(task: Task, asked: Validation) -> dict[str, float]:
    """Each rank classifies every `world`-th row; all score the whole, so all agree."""
    names = read_classes(asked.context.inputs["data"])
    sides = validation_logits(task, asked).argmax(axis=1), labels_of(asked.rows, asked.ids)
    predictions, references = ([names[i] for i in side] for side in sides)
    result = score(asked.metrics, predictions, references, asked.settings.scoring)
    return {name: float(result[name]["value"]) for name in asked.metrics}


# --- logits ----------------------------------------------------------------------------------------


def labels_of(rows: Rows, ids: Any) -> NDArray[np.int64]:
    """The numbers of the classes of some rows, (N,)."""
    return np.array([rows.target(int(i))[0] for i in ids], np.int64)


def mean_loss(logits: Logits, labels: NDArray[np.int64]) -> float:
    """Cross-entropy of the labels in nats, the mean over the examples."""
    found = torch.nn.functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(labels))
    return float(found)


def probabilities(logits: Logits) -> NDArray[np.float64]:
    """(N, classes)"""
    found: NDArray[np.float64] = torch.from_numpy(logits).double().softmax(dim=1).numpy()
    return found
