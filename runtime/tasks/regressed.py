"""Numbers that a model predicts: held against those of the data, in an evaluation and in a training.

predictions.<test set>.jsonl  {id, source, hypothesis of a pair, reference, prediction}, the last two numbers
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.rows import Rows
from ..execution.context import Context
from ..messages.notices import Notice
from ..metrics.score import needing, score, score_loss
from ..models.load import load_tokenizer, model_folder
from ..plan.plan import Stage
from ..plan.settings import EvaluateSettings
from ..protocol import Task, Validation
from .row_logits import evaluated_model, evaluation_logits, validation_logits, write_predictions

Numbers = NDArray[np.float64]


class Evaluation:
    """Of the model of an `evaluate` stage; `protocol.Evaluation` says what the methods are."""

    account = ""

    def __init__(self, task: Task, stage: Stage, context: Context) -> None:
        self._task, self._stage, self._context = task, stage, context
        self._settings: EvaluateSettings = stage.settings
        self._pad_id = load_tokenizer(model_folder(context.inputs["model"])).pad_token_id
        self._model = evaluated_model(self._settings, context)
        self._trained = Rows.open(context.inputs["data"], "train")

    def scores(self, rows: Rows, num_examples: int, name: str) -> dict[str, Any]:
        context, ids = self._context, np.arange(num_examples)
        logits = evaluation_logits(self._task, self._model, rows, ids, self._pad_id, context, f"predicting {name}")
        predicted, wanted = logits[:, 0].astype(np.float64), numbers_of(rows, ids)
        if context.is_rank_zero:
            self._write(rows, predicted, wanted, name)
        return self._scored(predicted, wanted)

    def baselines(self, rows: Rows, num_examples: int) -> dict[str, dict[str, Any]]:
        """The mean of the training numbers, for every row."""
        mean = numbers_of(self._trained, np.arange(len(self._trained))).mean()
        return {"mean": self._scored(np.full(num_examples, mean), numbers_of(rows, np.arange(num_examples)))}

    def notices(self, scores: Mapping[str, Any], baselines: Mapping[str, Mapping[str, Any]]) -> Iterator[Notice]:
        for name, found in scores.items():
            metric = next((metric for metric in ("pearson", "spearman") if metric in found), None)
            if self._stage.id == "evaluate-teacher" and metric is not None and found[metric]["value"] <= 0.0:
                yield Notice(
                    "R365",
                    f"on {name} the teacher's {metric} is {found[metric]['value']:.2f}, and that of the mean baseline, "
                    "the mean of the training numbers for every row, is 0",
                    "a student learns what its teacher can: stop here, and train the teacher longer "
                    "(`teacher.train`), or take another",
                    "teacher",
                )

    def _scored(self, predicted: Numbers, wanted: Numbers) -> dict[str, Any]:
        metrics = self._settings.metrics
        scores = {}
        if of_labels := needing(metrics, "labels"):
            scores = score(of_labels, texts(predicted), texts(wanted), self._settings.scoring)
        if of_loss := needing(metrics, "loss"):
            scores |= score_loss(of_loss, float(np.square(predicted - wanted).mean()))
        return {metric: scores[metric] for metric in metrics if metric in scores}

    def _write(self, rows: Rows, predicted: Numbers, wanted: Numbers, name: str) -> None:
        answers = (
            {"reference": reference, "prediction": prediction}
            for prediction, reference in zip(predicted.tolist(), wanted.tolist(), strict=True)
        )
        write_predictions(self._context.folder / f"predictions.{name}.jsonl", rows, answers)


# --- in a training ---------------------------------------------------------------------------------


def validate(task: Task, asked: Validation) -> dict[str, float]:
    """Each rank reads every `world`-th row; all score the whole, so all agree."""
    predicted, wanted = validation_logits(task, asked)[:, 0], numbers_of(asked.rows, asked.ids)
    result = score(asked.metrics, texts(predicted), texts(wanted), asked.settings.scoring)
    return {name: float(result[name]["value"]) for name in asked.metrics}


def numbers_of(rows: Rows, ids: Any) -> Numbers:
    """The numbers of some rows, (N,), as their data have them."""
    return np.array([float(rows.raw(int(i))["target"]) for i in ids], np.float64)


def texts(numbers: NDArray[Any]) -> list[str]:
    """As metrics are given them."""
    return [repr(number) for number in numbers.astype(np.float64).tolist()]
