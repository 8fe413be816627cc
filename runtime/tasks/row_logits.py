"""What a head says of a whole row, of a classifier's classes or as a number: in an evaluation, in a training, timed.

The model is one of transformers, or what onnxruntime serves of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.rows import Rows
from ..execution.context import Context
from ..extensions import TASKS
from ..models.forward import label_logits
from ..models.load import load_model, model_folder
from ..models.onnx_form import OnnxModel
from ..plan.plan import Stage
from ..plan.settings import EvaluateSettings
from ..protocol import Task, Timed, Validation
from .forward_passes import over_ranks, timed_forwards

Logits = NDArray[np.float32]  # (N, outputs)


def evaluated_model(settings: EvaluateSettings, context: Context) -> Any:
    """The model of an `evaluate` stage, in the form that the plan asks for."""
    if settings.served is not None:
        return OnnxModel(context.inputs["converted"], torch.get_num_threads())
    folder = model_folder(context.inputs["model"])
    return load_model(folder, precision=settings.precision).to(context.device)


def evaluation_logits(
    task: Task, model: Any, rows: Rows, ids: Any, pad_id: int, context: Context, doing: str
) -> Logits:
    """Of rows of a test set, on every rank. `doing`: what the progress says. Raises `Failure` R300: asked to stop."""
    with context.progress.task(doing, len(ids), "examples") as update:
        return _everywhere(task, model, rows, ids, pad_id, context, context.device, update)


def validation_logits(task: Task, asked: Validation) -> Logits:
    """Of the rows of a validation, on every rank. Raises `Failure` R300: asked to stop."""
    with asked.context.progress.task("validation", len(asked.ids), "examples") as update:
        return _everywhere(
            task, asked.model, asked.rows, asked.ids, asked.tokenizer.pad_token_id, asked.context, asked.device, update
        )


def _everywhere(
    task: Task, model: Any, rows: Rows, ids: Any, pad_id: int, context: Context, device: Any,
    on_progress: Callable[[int], None],
) -> Logits:  # fmt: skip
    def answer(chosen: Any) -> list[Any]:
        return list(logits_of(model, task.collate(rows, chosen, pad_id), device))

    return np.stack(over_ranks(rows, ids, context, on_progress, answer))


@torch.inference_mode()
def logits_of(model: Any, batch: Mapping[str, torch.Tensor], device: Any) -> Logits:
    """(B, outputs) of a collated batch; `model` in eval mode."""
    if isinstance(model, OnnxModel):
        return model.logits(batch)
    logits = label_logits(model, {name: tensor.to(device) for name, tensor in batch.items()})
    found: Logits = logits.float().cpu().numpy()
    return found


def write_predictions(file: Path, rows: Rows, answers: Iterable[Mapping[str, Any]]) -> None:
    """A line a row: id, source, hypothesis of a pair, and what was answered."""
    with file.open("w", encoding="utf-8") as lines:
        for i, answer in enumerate(answers):
            raw = rows.raw(i)
            line = {name: raw[name] for name in ("id", "source", "hypothesis") if name in raw} | dict(answer)
            lines.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


def timed(stage: Stage, context: Context, split: str) -> list[Timed]:
    """Forward passes over the first examples of a set."""
    return timed_forwards(stage, context, split, _answer)


def _answer(model: Any, tokenizer: Any, rows: Rows, num_examples: int) -> Callable[[Any], Logits]:
    task, pad_id = TASKS["classification"], tokenizer.pad_token_id  # a regression is read as it is
    return lambda ids: logits_of(model, task.collate(rows, ids, pad_id), model.device)
