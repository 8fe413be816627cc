"""The objective of a training stage, built from the folders of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from ..failure import Failure
from ..models.dropout import set_dropout
from ..models.freeze import freeze
from ..models.load import load_model, model_folder
from ..plan.settings import TrainSettings
from .objective import Objective
from .teacher import load_teacher


def objective_of(settings: TrainSettings, inputs: Mapping[str, Path], device: str, section: str = "") -> Objective:
    """What a stage trains, from the folders of its inputs: the student loaded and frozen in parts, the teacher
    beside it on the device, the terms over both. Leaves torch's random state at the stage's seed. `section`: of the
    spec, `Stage.section`; what is wrong with the loss is told there."""
    model = load_model(model_folder(inputs["model"]), precision="fp32")
    if settings.dropout is not None:
        set_dropout(model, settings.dropout.hidden)
    freeze(model, settings.freeze)
    teacher = None
    if "teacher" in inputs:
        folder = model_folder(inputs["teacher"])
        teacher = load_teacher(folder, model, settings.freeze, settings.precision).to(device)
    torch.manual_seed(settings.seed)  # projections are drawn from it
    try:
        return Objective(model, settings.objective, settings.freeze, teacher)
    except Failure as failure:
        failure.spec_path = f"{section}{failure.spec_path}" if failure.spec_path else None
        raise
