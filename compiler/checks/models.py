"""Rules about teacher and student that need no look at a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..diagnostics.diagnostic import Trail, quoted
from .context import SpecContext


def check_available(spec: SpecContext) -> None:
    """Kinds of models that the language knows and this release cannot find (E401)."""
    tree, reporter = spec.tree, spec.reporter
    models: dict[Trail, Any] = {("teacher",): tree["teacher"]}
    for part, origin in tree["student"]["init"].items():
        if isinstance(origin, Mapping):
            models[("student", "init", part, "from")] = origin["from"]
    for name, labeller in tree.get("pseudo_labels", {}).items():
        models[("pseudo_labels", name, "by")] = labeller.get("by")
    for path, model in models.items():
        if isinstance(model, Mapping) and "mlflow" in model:
            reporter.error(
                "E401",
                (*path, "mlflow"),
                "models in MLflow's registry are not supported: their shape is not known here",
                f"download it (`mlflow artifacts download -u {quoted(model['mlflow'])} -d DIR`) and name the folder "
                "in it that has the config.json: `{path: DIR}`",
                at="key",
            )


def check_teacher(spec: SpecContext) -> None:
    """A teacher from scratch is trained (E410)."""
    run, reporter = spec.run, spec.reporter
    if run.teacher.architecture is not None and run.teacher.train is None:
        reporter.error(
            "E410",
            ("teacher", "architecture"),
            "a teacher from scratch has to be trained",
            "add `train: {}` to the teacher: it is then trained first, with default settings",
            at="key",
            because=[("teacher", "train")],
        )


def check_freeze(spec: SpecContext) -> None:
    """Random weights are not frozen (E411)."""
    run, reporter = spec.run, spec.reporter
    student = run.student
    if isinstance(student.freeze, str):
        return
    origins = {"encoder": student.init.encoder, "embeddings": student.init.embeddings}
    origins["positions"] = student.init.embeddings
    for i, part in enumerate(student.freeze):
        if origins[part] == "random":
            init = "encoder" if part == "encoder" else "embeddings"
            reporter.error(
                "E411",
                ("student", "freeze", i),
                f"{part} has random weights and would be frozen",
                f"remove {part} from `freeze`, or copy them: `init: {{{init}: teacher}}`"
                if init == "embeddings"
                else "remove encoder from `freeze`, or copy it: `init: {encoder: {from: teacher}}`",
                because=[("student", "init", init)],
            )
