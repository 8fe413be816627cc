"""The `settings` of the stages that train and measure: what of a run enters their keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from ..resolve.data_sources import table_fact
from ..resolve.engines import Engine
from ..resolve.objective import batch_settings, method_settings
from ..resolve.scoring import scoring_settings
from ..spec.experiment import Baseline, Experiment, Generation, Labeller, Speed, Training, Warmup
from ..tasks.task import TASKS


def train_settings(
    experiment: Experiment,
    training: Training,
    seed: int,
    precision: str,
    freeze: Sequence[str],
    trainable_parameters: int,
    objective: Mapping[str, Any],
    warmup: Warmup,
    default_max_length: int | None = None,
    line_break: bool = False,
) -> dict[str, Any]:
    """Settings of a `train` stage. `default_max_length`: as of `generation_settings`; where validations write.
    `line_break`: the model writes `<n>` for one."""
    optimization, validation = training.optimization, training.validation
    task, masking = experiment.task, experiment.data.masking
    return {
        "task": task,
        "seed": seed,
        "precision": precision,
        "objective": dict(objective),
        "masking": None if masking is None else asdict(masking),
        "freeze": list(freeze),
        "batch": batch_settings(training.batch),
        "learning_rate": optimization.learning_rate,
        "schedule": optimization.schedule,
        "warmup_steps": warmup.steps,
        "warmup_ratio": warmup.ratio,
        "optimizer": asdict(optimization.optimizer),
        "gradient_clipping": optimization.gradient_clipping,
        "dropout": None if optimization.dropout is None else {"hidden": optimization.dropout},
        "stopping": asdict(training.stopping),
        "validation": {
            "every_epochs": validation.every.epochs,
            "every_steps": validation.every.steps,
            "limit": validation.limit,
            "metrics": list(validation.metrics),
            **scoring_settings(experiment, validation.metrics, line_break=line_break),
            "generation": generation_settings(
                task, validation.generation, default_max_length if set(validation.metrics) != {"loss"} else None
            ),
        },
        "trainable_parameters": trainable_parameters,
        **({} if optimization.method is None else {"method": method_settings(optimization.method)}),
    }


def candidate_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the `signals` stage that keeps the candidates of a training; `settings`: the training's."""
    logits = settings["objective"]["logits"]
    candidates = logits["candidates"]
    return {
        "side": "decoder",
        "last": False,
        "layers": [],
        "precision": settings["precision"],
        "candidates": {
            **candidates,
            "temperature": logits["temperature"],
            "seed": settings["seed"] if candidates["kind"] == "sampled" else None,
        },
    }


def evaluate_settings(
    task: str,
    split: str,
    limit: int | None,
    metrics: Sequence[str],
    generation: Generation,
    precision: str,
    default_max_length: int | None = None,
) -> dict[str, Any]:
    """Settings of an `evaluate` stage. `default_max_length`: as of `generation_settings`."""
    return {
        "task": task,
        "split": split,
        "limit": limit,
        "metrics": list(metrics),
        "generation": generation_settings(task, generation, default_max_length),
        "precision": precision,
    }


def baseline_settings(
    task: str,
    baseline: Baseline,
    fingerprints: Mapping[str, str],
    limit: int | None,
    metrics: Sequence[str],
) -> dict[str, Any]:
    """Settings of a `baseline` stage. `fingerprints`: of the file of each test set. The loss of a system is
    nothing that its texts say."""
    return {
        "task": task,
        "limit": limit,
        "metrics": [name for name in metrics if name != "loss"],
        "predictions": {
            name: {
                "fingerprint": fingerprint,
                "kind": PurePath(baseline.predictions[name]).suffix.lower(),
                "id": baseline.id,
                "text": baseline.text,
                **table_fact([baseline.predictions[name]]),
            }
            for name, fingerprint in fingerprints.items()
        },
    }


def benchmark_settings(
    task: str, speed: Speed, generation: Generation, precision: str, device: str, default_max_length: int | None = None
) -> dict[str, Any]:
    """Settings of a `benchmark` stage: the one kind whose key holds the device, by name. `default_max_length`: as of
    `generation_settings`."""
    return {
        "task": task,
        **asdict(speed),
        "generation": generation_settings(task, generation, default_max_length),
        "precision": precision,
        "device": device,
    }


def convert_settings(engine: Engine, task: str) -> dict[str, Any]:
    """Settings of a `convert` stage. ctranslate2's is held to the original on tokens of its own, whatever the task."""
    of_task = {} if engine.name == "ctranslate2" else {"task": task}
    return {"format": engine.name, "compute_type": engine.compute_type, **of_task}


def label_settings(
    labeller: Labeller,
    data: Mapping[str, Any],
    prefix: str,
    precision: str,
    max_positions: int | None,
    default_max_length: int | None = None,
) -> dict[str, Any]:
    """Settings of a `pseudo-labels` stage in which a model writes, one with positions for so many tokens. `data`:
    of the data stage; the validation and test sets are no business of the labels. `prefix`: what its sources begin
    with. `default_max_length`: as of `generation_settings`."""
    limit = labeller.max_source_tokens or min(data["max_source_tokens"], max_positions or data["max_source_tokens"])
    if default_max_length is not None:
        default_max_length = min(default_max_length, max_positions or default_max_length)
    generation = generation_settings(data["task"], labeller.generation, default_max_length)
    if generation is not None and labeller.best_of is not None:
        generation["n_best"] = labeller.best_of
    return {
        **_label_settings(labeller, data),
        "prefix": prefix,
        "source": "model",
        "max_source_tokens": limit,
        "generation": generation,
        "precision": precision,
        "file": None,
    }


def file_label_settings(labeller: Labeller, fingerprint: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a `pseudo-labels` stage that takes labels made elsewhere."""
    return {
        **_label_settings(labeller, data),
        "source": "file",
        "max_source_tokens": None,
        "generation": None,
        "precision": None,
        "file": {
            "fingerprint": fingerprint,
            "id": labeller.file_id,
            "text": labeller.file_text,
            **table_fact([labeller.file or ""]),
        },
    }


def _label_settings(labeller: Labeller, data: Mapping[str, Any]) -> dict[str, Any]:
    names = ("task", "train", "columns", "prefix", "source_language", "target_language")
    rules = {name: getattr(labeller, name) for name in RULES}
    return {
        **{name: data[name] for name in names},
        **{name: value for name, value in rules.items() if value is not None or name == "min_rouge2"},
    }


# The rules of `keep`. All but the first came after the first plans: a plan is without those that are off.
RULES = ("min_rouge2", "min_bleu", "min_length_ratio", "max_length_ratio", "max_repetition")


def without_rules(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the settings of a `pseudo-labels` stage that keeps all labels, the rules that it had)."""
    rules = {name: settings[name] for name in RULES if settings.get(name) is not None}
    return {**{name: value for name, value in settings.items() if name not in RULES}, "min_rouge2": None}, rules


def rule_settings(settings: Mapping[str, Any], rules: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a `pseudo-labels` stage that holds labels that are there to rules."""
    nothing = dict.fromkeys(("max_source_tokens", "generation", "precision", "file"))
    return {**without_rules(settings)[0], **nothing, "source": "labels", **rules}


def generation_settings(
    task: str, generation: Generation, default_max_length: int | None = None
) -> dict[str, Any] | None:
    """None for tasks that write no text. Of transformers, which is all that can be taken while a model changes;
    a stage in which another engine may write puts it in its place (`engines.py`). `default_max_length`: of a model
    whose checkpoint says nothing of it; it stands in the plan where the spec says nothing either."""
    if not TASKS[task].writes_texts:
        return None
    settings = {**asdict(generation), "engine": "transformers", "compute_type": None}
    if generation.max_length is None:
        settings["default_max_length"] = default_max_length
    return {name: value for name, value in settings.items() if value is not None or name not in LATER_GENERATION}


# Options of generation that came after the first plans: a plan is without those that are off.
LATER_GENERATION = ("compute_type", "sampling", "default_max_length")
