"""Settings of a stage -> the keys of a spec that they come from, so that a message names what people wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..diagnostics.diagnostic import Trail, dotted
from .differences import differences

DERIVED = ("parameters", "trainable_parameters")  # they follow from other settings, of this stage or another
IN_NO_SPEC = ("device", "extensions")  # of the machine, and of the packages that are installed

_OF_DATA = {
    name: f"data.{name}"
    for name in (
        "train", "validation", "test", "columns", "labels", "max_source_tokens", "max_target_tokens", "prefix",
        "source_language", "target_language",
    )
}  # fmt: skip
_SCORING = {
    "scoring": "evaluation.", "scoring.rouge_tokenizer": "evaluation.rouge.tokenizer",
    "scoring.stemmer": "evaluation.rouge.stemmer", "scoring.bleu_tokenize": "evaluation.bleu.tokenize",
    "scoring.line_break": "teacher.",
}  # fmt: skip
# Stage kind -> (setting -> key). The longest setting that fits counts, and what lies below it is appended;
# a key that ends in "." has nothing below it that a spec could say. `{training}` is "", "teacher.train." or
# "training[0].", `{name}` what follows the dash in the stage's id.
_KEYS: Mapping[str, Mapping[str, str]] = {
    "tokenizer": {
        **_OF_DATA, "algorithm": "teacher.tokenizer.kind", "vocab_size": "teacher.tokenizer.vocab_size",
        "family": "teacher.architecture.family",
    },
    "data": {**_OF_DATA, "task": "task"},
    "teacher": {
        "": "{model}.", "num_labels": "data.labels.", "seed": "teacher.seed", "config": "teacher.architecture.",
    },
    "student": {
        "family": "student.family", "config": "student.", "encoder_layers": "student.encoder_layers",
        "decoder_layers": "student.decoder_layers", "embeddings": "student.init.embeddings",
        "fold_token_types": "student.init.fold_token_types",
        "encoder.layers": "student.init.encoder.layers", "decoder.layers": "student.init.decoder.layers",
        "encoder.origin": "student.init.encoder.from", "decoder.origin": "student.init.decoder.from",
        "seed": "seeds", "num_labels": "data.labels.",
    },
    "pseudo-labels": {
        **_OF_DATA, "task": "task", "precision": "precision", "source": "pseudo_labels.{name}.",
        "max_source_tokens": "pseudo_labels.{name}.max_source_tokens", "prefix": "pseudo_labels.{name}.prefix",
        "generation": "pseudo_labels.{name}.generation", "file": "pseudo_labels.{name}.file.",
        "min_rouge2": "pseudo_labels.{name}.keep.min_rouge2", "min_bleu": "pseudo_labels.{name}.keep.min_bleu",
        "min_length_ratio": "pseudo_labels.{name}.keep.length_ratio.min",
        "max_length_ratio": "pseudo_labels.{name}.keep.length_ratio.max",
        "max_repetition": "pseudo_labels.{name}.keep.max_repetition",
        "generation.n_best": "pseudo_labels.{name}.best_of",
        "generation.named": "pseudo_labels.{name}.generation.engine",
        "generation.default_max_length": "data.max_target_tokens", **_SCORING,
    },
    "targets": {"targets": "targets", "shares": "targets.", "max_target_tokens": "data.max_target_tokens"},
    "signals": {
        "precision": "precision", "candidates": "loss.logits.candidates.",
        "candidates.temperature": "loss.logits.temperature", "candidates.seed": "seeds",
    },
    "train": {
        "task": "task", "seed": "{seed}", "precision": "{training}precision", "objective": "{training}loss",
        "objective.own": "{training}loss", "objective.schedules": "{training}loss",
        "objective.logits.candidates": "{training}loss.logits.candidates.",
        "objective.phi": "phi", "masking": "data.masking",
        "freeze": "student.freeze", "batch": "{training}batch.",
        "learning_rate": "{training}training.learning_rate", "schedule": "{training}training.schedule",
        "warmup_steps": "{training}training.warmup.steps", "warmup_ratio": "{training}training.warmup.ratio",
        "optimizer": "{training}training.optimizer", "dropout": "{training}training.dropout",
        "method": "{training}training.method",
        "dropout.hidden": "{training}training.dropout",
        "gradient_clipping": "{training}training.gradient_clipping", "stopping": "{training}stopping",
        "validation": "{training}validation", "validation.every_epochs": "{training}validation.every.epochs",
        "validation.every_steps": "{training}validation.every.steps",
        "validation.generation.default_max_length": "data.max_target_tokens",
        **{f"validation.{setting}": key for setting, key in _SCORING.items()},
    },
    "evaluate": {
        "task": "task", "limit": "evaluation.limit", "metrics": "evaluation.metrics", "precision": "precision",
        "generation": "evaluation.generation", "generation.named": "evaluation.generation.engine",
        "generation.default_max_length": "data.max_target_tokens", "served": "evaluation.exports.", **_SCORING,
    },
    "baseline": {
        "task": "task", "limit": "evaluation.limit", "metrics": "evaluation.metrics",
        "predictions": "baselines.{name}.predictions.", **_SCORING,
    },
    "benchmark": {
        "task": "task", "batch_size": "evaluation.speed.batch_size", "repeats": "evaluation.speed.repeats",
        "examples": "evaluation.speed.examples", "precision": "precision", "generation": "evaluation.generation",
        "generation.named": "evaluation.generation.engine",
        "generation.default_max_length": "data.max_target_tokens", "served": "evaluation.exports.",
    },
    "convert": {
        "format": "evaluation.generation.engine", "compute_type": "evaluation.generation.compute_type", "task": "task",
    },
}  # fmt: skip
_OF_STAGE: Mapping[str, Mapping[str, str]] = {
    "evaluate-teacher": {"generation": "evaluation.teacher_generation"},
    "benchmark-teacher": {"generation": "evaluation.teacher_generation"},
    "evaluate-teacher-validation": {
        "generation": "validation.generation", "limit": "validation.limit", "metrics": "stopping.retention."
    },
}  # fmt: skip


class Change(NamedTuple):
    """A setting that is not the same in two stages. None: null, or not there."""

    key: str
    a: Any
    b: Any


def changed_settings(stage: str, kind: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    """What differs between the settings of two stages of a kind, as keys of a spec. What follows from other
    settings is left out: it is never the reason."""
    found = [found for found in differences(a, b) if found.path[0] not in DERIVED]
    return [
        Change(spec_key(stage, kind, path), _written(path, one), _written(path, other)) for path, one, other in found
    ]


def _written(setting: Trail, value: Any) -> Any:
    """A value as a spec has it: of dropout the rate alone, where the plan also names what is dropped."""
    return value["hidden"] if setting == ("dropout",) and isinstance(value, Mapping) else value


def spec_key(stage: str, kind: str, setting: Trail) -> str:
    """The dotted key of a spec that a setting comes from: `training.learning_rate`.

    Where a spec says it in another form than the stage, its nearest key with the setting behind it:
    `teacher.architecture (d_model)`. A setting that no spec has is named with its stage:
    `device of benchmark-student`. A stage of another spec's run: `training.learning_rate of small`.
    """
    owner, _, own = stage.rpartition("/")
    if owner:
        key = spec_key(own, kind, setting)
        return f"{dotted(setting)} of {stage}" if key.endswith(f" of {own}") else f"{key} of {owner}"
    of_kind = _KEYS.get(kind, {"own": "stages.{kind}"})
    keys = {**of_kind, **_OF_STAGE.get(stage, {})} if setting[0] not in IN_NO_SPEC else {}
    for end in range(len(setting), -1, -1):
        found = keys.get(dotted(setting[:end]))
        if found is None:
            continue
        key = found.format(
            model=_model(stage),
            kind=kind,
            name=stage.partition("-")[2],
            training=_training(stage),
            seed="teacher.seed" if stage == "teacher-train" else "seeds",
        )
        key = re.sub(r"^(training\[\d+\]\.)training\.", r"\1", key)  # a phase has the keys of `training` itself
        below = dotted(setting[end:])
        if not key.endswith("."):
            return key + (f".{below}" if below and not below.startswith("[") else below)
        return f"{key[:-1]} ({below or dotted(setting)})"
    return f"{dotted(setting)} of {stage}"


def _training(stage: str) -> str:
    """What stands before the keys of a training."""
    if stage == "teacher-train":
        return "teacher.train."
    number = stage.removeprefix("train-")
    return f"training[{int(number) - 1}]." if number.isdecimal() else ""


def _model(stage: str) -> str:
    """Where a spec names the model of a stage of kind teacher."""
    if stage.endswith("-origin"):
        return f"student.init.{stage.removesuffix('-origin')}.from"
    if stage.startswith("labeller-"):
        return f"pseudo_labels.{stage.removeprefix('labeller-')}.by"
    return "teacher"
