"""Regression: a text, or a pair of them, is read, and a number is its answer: the one output of its head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..failure import Failure
from ..plan.plan import Stage
from ..plan.settings import DataSettings
from ..protocol import Evaluation, Validation
from .classification import Classification

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.rows import Rows
    from ..execution.context import Context


class Regression(Classification):
    """Read as in a classification; the label is the number itself, as the data have it."""

    metrics = ("pearson", "spearman")
    label_metric = "pearson"
    numbers = True

    def classes(self, settings: DataSettings, folder: Path) -> None:
        return None

    def configure(self, student: Any, teacher: Any | None, data: Path) -> None:
        """Raises `Failure` R207: the head of one of them has several outputs."""
        for model, name in ((student, "the model that is trained"), (teacher, "the teacher")):
            if model is not None and model.config.num_labels != 1:
                raise Failure(
                    "R207",
                    f"the head of {name} has {model.config.num_labels} outputs, and a regression has one",
                    "name a model with one output, or train the teacher: `teacher: {train: {}}`",
                    spec_path="teacher",
                )
        student.config.problem_type = "regression"

    def encode_target(self, settings: DataSettings) -> Callable[[str], float]:
        return float

    def collate(self, rows: Rows, ids: Any, pad_id: int) -> dict[str, Tensor]:
        import torch

        found = super().collate(rows, ids, pad_id)
        return found if len(ids) else {**found, "labels": torch.full((1,), torch.nan)}

    # --- answers -------------------------------------------------------------------------------------

    def evaluation(self, stage: Stage, context: Context) -> Evaluation:
        from .regressed import Evaluation

        return Evaluation(self, stage, context)

    def validate(self, asked: Validation) -> dict[str, float]:
        from .regressed import validate

        return validate(self, asked)

    def usage(self, text: str) -> list[str]:
        return [
            "from transformers import pipeline",
            "",
            'predict = pipeline("text-classification", model=folder)',
            f'print(predict({text})[0]["score"])  # the number',
        ]


REGRESSION = Regression()
