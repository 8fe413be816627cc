"""The `convert` stage: a model folder of transformers -> the same model for ctranslate2 (generation/conversion.py).

A model that ctranslate2 cannot be is no failure here: the artifact says why, and who writes with it decides.
"""

from __future__ import annotations

from typing import Any

from ..execution.context import Context
from ..generation.conversion import convert
from ..models.load import model_folder
from ..plan.plan import Stage
from ..plan.settings import ConvertSettings
from ..protocol import StageKind


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """Raises `Failure` R221-R226 (loading)."""
    settings: ConvertSettings = stage.settings
    folder = model_folder(context.inputs["model"])
    with context.progress.task(f"converting for {settings.format}", None):
        reason = convert(folder, context.folder, settings.compute_type)
    if reason is not None:
        return {"reason": reason, "line": f"{settings.format} cannot be this model: {reason}"}
    num_bytes = (context.folder / "model.bin").stat().st_size
    return {"reason": None, "bytes": num_bytes, "line": f"{settings.compute_type}, {num_bytes / 1e6:.1f} MB"}


CONVERT = StageKind(run=run, parallel=False)
