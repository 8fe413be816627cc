"""The `settings` of the stages that train and measure: what of a run enters their keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .experiment import Generation, Speed, Training


def train_settings(
    task: str, training: Training, seed: int, precision: str, freeze: Sequence[str], trainable_parameters: int
) -> dict[str, Any]:
    """Settings of a `train` stage. A labels weight of 0 switches the term off."""
    batch, optimization, validation = training.batch, training.optimization, training.validation
    by_examples = batch.examples is not None
    labels = asdict(training.labels) if training.labels.weight else None
    return {
        "task": task,
        "seed": seed,
        "precision": precision,
        "objective": {"labels": labels},
        "freeze": list(freeze),
        "batch": {
            "unit": "examples" if by_examples else "tokens",
            "size": batch.examples if by_examples else batch.tokens,
        },
        "learning_rate": optimization.learning_rate,
        "schedule": optimization.schedule,
        "warmup_steps": optimization.warmup.steps,
        "warmup_ratio": optimization.warmup.ratio,
        "optimizer": asdict(optimization.optimizer),
        "gradient_clipping": optimization.gradient_clipping,
        "dropout": optimization.dropout,
        "stopping": asdict(training.stopping),
        "validation": {
            "every_epochs": validation.every.epochs,
            "every_steps": validation.every.steps,
            "limit": validation.limit,
            "metrics": list(validation.metrics),
            "generation": generation_settings(validation.generation),
        },
        "trainable_parameters": trainable_parameters,
    }


def evaluate_settings(
    task: str, split: str, limit: int | None, metrics: Sequence[str], generation: Generation, precision: str
) -> dict[str, Any]:
    """Settings of an `evaluate` stage."""
    return {
        "task": task,
        "split": split,
        "limit": limit,
        "metrics": list(metrics),
        "generation": generation_settings(generation),
        "precision": precision,
    }


def benchmark_settings(
    task: str, speed: Speed, generation: Generation, precision: str, device: str
) -> dict[str, Any]:
    """Settings of a `benchmark` stage: the one kind whose key holds the device, by name."""
    return {
        "task": task,
        **asdict(speed),
        "generation": generation_settings(generation),
        "precision": precision,
        "device": device,
    }


def generation_settings(generation: Generation) -> dict[str, Any]:
    """The engine is resolved here, because results depend on it."""
    return {"engine": "transformers", **asdict(generation)}
