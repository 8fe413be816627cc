"""The student: built from its teacher's config, layers copied and checked, saved as a plain model folder.

Artifact: model.safetensors, config.json, generation_config.json, the teacher's tokenizer files, and
`distilc.json`, which says where each layer comes from.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from ..execution.context import Context
from ..models.families import count_parameters, depths, family_of
from ..models.load import load_model, model_folder
from ..models.save import save_model
from ..models.shrink import shrink
from ..plan.plan import Stage
from ..plan.settings import StudentSettings
from ..protocol import StageKind


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """Raises `Failure` R22x and R24x: models that do not load, copies that are impossible or went wrong."""
    settings: StudentSettings = stage.settings
    origins = (settings.encoder.origin, settings.decoder.origin, settings.embeddings)
    roles = {"teacher", *(role for role in origins if role is not None and role in context.inputs)}
    models: dict[str, Any] = {}
    with context.progress.task("student", len(roles) + 2, "models") as update:
        for role in sorted(roles):
            models[role] = load_model(model_folder(context.inputs[role]), precision="fp32")
            update(len(models), f"loaded the {role.replace('_', ' ')}")
        student, report = shrink(models["teacher"], settings, models)
        update(len(roles) + 1, "copied its layers")
        save_model(student, context.folder, tokenizer=model_folder(context.inputs["teacher"]))
        update(len(roles) + 2, "saved")
    summary = {
        "parameters": report.parameters,
        "encoder_layers": report.encoder_layers,
        "decoder_layers": report.decoder_layers,
        "copied": [asdict(layer) for layer in report.copied],
    }
    teacher = models["teacher"]
    record = {
        "format": 1,
        "teacher": {
            "family": family_of(teacher).model_type,
            "parameters": count_parameters(teacher),
            **{f"{stack}_layers": depth for stack, depth in depths(teacher).items()},
        },
        "embeddings": settings.embeddings,
        **summary,
    }
    text = json.dumps(record, indent=2, sort_keys=True, allow_nan=False)
    (context.folder / "distilc.json").write_text(text + "\n", "utf-8")
    return summary


STUDENT = StageKind(run=run, parallel=False)
