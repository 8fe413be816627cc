"""The `convert` stage: a model folder of transformers -> the same model for ctranslate2 (generation/conversion.py), or
for onnxruntime (models/onnx_form.py).

A model that ctranslate2 cannot be is no failure here: the artifact says why, and who writes with it decides. One that
onnxruntime is asked for is served by it, and gives the original's logits on rows of a test set, or the run ends.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.rows import Rows, split_names
from ..execution.context import Context
from ..extensions import TASKS
from ..failure import Failure
from ..generation.conversion import convert
from ..models.load import load_model, load_tokenizer, model_folder, quiet
from ..models.onnx_form import FILE, OnnxModel, difference, export, quantize
from ..plan.plan import Stage
from ..plan.settings import ConvertSettings
from ..protocol import StageKind

NUM_ROWS, BATCH_SIZE = 64, 16  # that a form is held to the original on
TOLERANCE = 1e-4  # of a logit, in fp32


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """Raises `Failure` R221-R226 (loading), R323 (a package is missing), R324 (the form is another model)."""
    settings: ConvertSettings = stage.settings
    folder = model_folder(context.inputs["model"])
    with context.progress.task(f"converting for {settings.format}", None):
        if settings.format == "onnx":
            return _for_onnx(folder, settings, context)
        reason = convert(folder, context.folder, settings.compute_type)
    if reason is not None:
        return {"reason": reason, "line": f"{settings.format} cannot be this model: {reason}"}
    num_bytes = (context.folder / "model.bin").stat().st_size
    return {"reason": None, "bytes": num_bytes, "line": f"{settings.compute_type}, {num_bytes / 1e6:.1f} MB"}


def _for_onnx(folder: Path, settings: ConvertSettings, context: Context) -> dict[str, Any]:
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    batches = list(_batches(settings, context, tokenizer.pad_token_id))
    file = context.folder / FILE
    with quiet():
        model.config.save_pretrained(context.folder)
        tokenizer.save_pretrained(context.folder)
    export(model, tokenizer, batches[0], file)
    found = _largest_difference(model, context.folder, batches, TOLERANCE)
    if settings.compute_type == "int8":
        whole = file.rename(file.with_name("fp32.onnx"))
        quantize(whole, file)
        whole.unlink()
        found = _largest_difference(model, context.folder, batches, sys.float_info.max)  # scores say what it loses
    record = {
        "model_type": model.config.model_type, "compute_type": settings.compute_type, "largest_difference": found
    }  # fmt: skip
    text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False)
    (context.folder / "conversion.json").write_text(text + "\n", "utf-8")
    num_bytes = file.stat().st_size
    line = f"{settings.compute_type}, {num_bytes / 1e6:.1f} MB, logits at most {found:.2g} from the original's"
    return {"reason": None, "bytes": num_bytes, "largest_difference": found, "line": line}


def _largest_difference(model: Any, folder: Path, batches: list[dict[str, Tensor]], tolerance: float) -> float:
    """Of a logit from the original's, over all batches. Raises `Failure` R324: it is more than the tolerance."""
    exported = OnnxModel(folder, torch.get_num_threads())
    found = float(np.max([difference(exported, model, batch) for batch in batches]))  # NaN, if one is
    if not found <= tolerance:
        raise Failure(
            "R324",
            f"in the form of onnx the model gives other logits: up to {found:.3g} away from those of transformers, and "
            f"{tolerance:.3g} is allowed",
            f"torch {torch.__version__} cannot export this model: remove onnx from `evaluation.exports`",
            spec_path="evaluation.exports",
        )
    return found


def _batches(settings: ConvertSettings, context: Context, pad_id: int) -> Iterator[dict[str, Tensor]]:
    """Rows of the first test set, of all lengths that it has: padded in batches, then the shortest and the longest
    alone."""
    assert settings.task is not None  # of a form that is held to rows
    data = context.inputs["data"]
    rows = Rows.open(data, next(name for name in split_names(data) if name.startswith("test.")))
    order = np.argsort(rows.source_lengths, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, NUM_ROWS).astype(np.int64))]
    every = max(1, len(chosen) // BATCH_SIZE)
    for ids in (*(chosen[start::every] for start in range(every)), order[:1], order[-1:]):
        yield TASKS[settings.task].collate(rows, ids, pad_id)


CONVERT = StageKind(run=run, parallel=False)
