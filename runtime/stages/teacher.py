"""The teacher: built from an architecture, or an existing model that is looked at and referenced, not copied.

Artifact: a plain model folder (kind architecture, and an existing model whose head is drawn), or `reference.json` with
the place and the files of an existing one (kinds folder and hub). Role `tokenizer` is needed for an architecture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..execution.context import Context
from ..failure import Failure
from ..files.integrity import fingerprint, model_files
from ..models.build import build
from ..models.families import count_parameters, family_of
from ..models.fetch import fetch
from ..models.load import has_classes, load_tokenizer, load_with_new_head, read_config, stored_parameters
from ..models.parts import check_parts
from ..models.save import save_model
from ..models.weights import weight_files
from ..plan.plan import Stage
from ..plan.settings import TeacherSettings
from ..protocol import StageKind


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """Raises `Failure` R22x and R24x: a model that is incomplete, unreachable, or not the plan's."""
    settings: TeacherSettings = stage.settings
    if settings.kind == "architecture":
        return _build(settings, context)
    folder = _place(settings, context)
    summary = _look_at(folder, settings) if settings.seed is None else {}
    hashes = {file.name: context.hashes.sha256(str(file), file) for file in model_files(folder.resolve())}
    if settings.fingerprint not in (None, fingerprint(hashes)):
        raise Failure(
            "R224", f"the model in {folder} was changed since the plan was compiled", "compile the spec again",
            spec_path="teacher",
        )  # fmt: skip
    if settings.seed is not None:
        return _with_new_head(folder, settings, settings.seed, context)
    reference = {
        "path": str(folder.resolve()),
        "fingerprint": settings.fingerprint,
        "repository": settings.repository,
        "revision": settings.revision,
        "sha256": hashes,
        "files": {file.name: file.stat().st_size for file in (folder / "config.json", *weight_files(folder))},
    }
    text = json.dumps(reference, indent=2, sort_keys=True, allow_nan=False)
    (context.folder / "reference.json").write_text(text + "\n", "utf-8")
    return summary


def _build(settings: TeacherSettings, context: Context) -> dict[str, Any]:
    assert settings.config is not None and settings.seed is not None
    source = context.inputs["tokenizer"]
    with context.progress.task("teacher", 2, "steps") as update:
        model = build(settings.family, settings.config, settings.seed, load_tokenizer(source), settings.num_labels)
        parameters = count_parameters(model)
        _check_parameters(parameters, settings)
        update(1, "built")
        save_model(model, context.folder, tokenizer=source)
        update(2, "saved")
    return _summary(model.config, parameters)


def _with_new_head(folder: Path, settings: TeacherSettings, seed: int, context: Context) -> dict[str, Any]:
    """An existing model whose head is drawn: it was saved with another one."""
    _check_family(folder, read_config(folder), settings)
    with context.progress.task("teacher", 2, "steps") as update:
        model = load_with_new_head(folder, settings.num_labels, seed)
        parameters = count_parameters(model)
        _check_parameters(parameters, settings)
        check_parts(folder, model.config, load_tokenizer(folder))
        update(1, "its head is drawn")
        save_model(model, context.folder, tokenizer=folder)
        update(2, "saved")
    return _summary(model.config, parameters)


def _place(settings: TeacherSettings, context: Context) -> Path:
    """The folder of an existing model: where the site has it, else the hub's cache, else the hub."""
    locations = context.stage.execution.locations
    if settings.kind == "hub":
        assert settings.repository is not None and settings.revision is not None
        known = locations.get(f"{settings.repository}@{settings.revision}")
        if known is not None:
            return Path(known)
        with context.progress.task(f"fetching {settings.repository}", None):
            return fetch(settings.repository, settings.revision, offline=context.plan.site.offline)
    if settings.fingerprint is None or settings.fingerprint not in locations:
        raise Failure(
            "R242",
            "the plan does not say where the teacher's folder is on this machine",
            "compile the spec again here",
            spec_path="teacher",
        )
    return Path(locations[settings.fingerprint])


def _look_at(folder: Path, settings: TeacherSettings) -> dict[str, Any]:
    """Is it complete and what the plan says? The weights are not loaded for it."""
    config = read_config(folder)
    _check_family(folder, config, settings)
    if has_classes(config) != (settings.num_labels is not None):
        has, wanted = ("classes", "the vocabulary") if has_classes(config) else ("the vocabulary", "classes")
        raise Failure(
            "R225",
            f"the model in {folder} was saved with a head over {has}, and the task needs one over {wanted}",
            "name a model of this task",
            spec_path="teacher",
        )
    parameters = stored_parameters(folder)
    _check_parameters(parameters, settings)
    check_parts(folder, config, load_tokenizer(folder))
    return _summary(config, parameters)


def _check_family(folder: Path, config: Any, settings: TeacherSettings) -> None:
    family = family_of(config)
    if family.model_type != settings.family:
        raise Failure(
            "R229",
            f"{folder} is a {family.model_type} model, the plan says {settings.family}",
            "compile the spec again",
            spec_path="teacher",
        )


def _summary(config: Any, parameters: int) -> dict[str, Any]:
    family = family_of(config)
    return {
        "family": family.model_type,
        "parameters": parameters,
        **{f"{stack}_layers": getattr(config, field) for stack, field in family.depths.items()},
    }


def _check_parameters(parameters: int, settings: TeacherSettings) -> None:
    if parameters != settings.parameters:
        raise Failure(
            "R229",
            f"the teacher has {parameters:,} parameters, not {settings.parameters:,}",
            "compile the spec again; if it stays, please report this",
            spec_path="teacher",
        )


TEACHER = StageKind(run=run, parallel=False)
