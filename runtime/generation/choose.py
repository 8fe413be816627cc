"""Which engine writes: the one that the plan names, or transformers where that one cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..failure import Failure
from ..models.load import Precision, has_classes, read_config
from ..plan.settings import GenerationSettings
from .ctranslate2_engine import CTranslate2Engine, Unsupported
from .engine import Engine, Source
from .transformers_engine import TransformersEngine


def open_engine(
    settings: GenerationSettings,
    folder: Path,
    converted: Path | None = None,
    *,
    precision: Precision,
    device: str,
    labels: Source | None = None,
    num_threads: int | None = None,
    one_at_a_time: bool = False,
    with_scores: bool = True,
) -> Engine:
    """The engine that the plan names, ready to work.

    `folder`: the model's (of transformers, with its tokenizer). `converted`: the artifact of the `convert`
    stage (needed by ctranslate2). `labels`: those of any example, from which a multilingual model learns in
    which language to answer. `num_threads`: of ctranslate2 on the CPU; None: those that torch has.
    `one_at_a_time`: all threads work on one batch (for measuring latency), where several would be faster.
    `with_scores` False: scores may be NaN, which spares transformers a pass of the decoder.

    Raises `Failure` R221-R226 (loading), R320 (texts longer than the model has positions), R321 (ctranslate2,
    asked for by name, cannot do it), R322 (the conversion is not there or damaged).
    """
    _require_positions(settings, read_config(folder), folder)

    def reference(note: str = "") -> TransformersEngine:
        return TransformersEngine.open(
            settings, folder, precision=precision, device=device, labels=labels, note=note, with_scores=with_scores
        )

    if settings.engine == "transformers":
        return reference()
    if converted is None:
        raise Failure("R322", "ctranslate2 has no converted model to work with", "compile the spec again")
    try:
        return CTranslate2Engine(
            converted, folder, settings, device, labels, reference,
            num_threads=num_threads or torch.get_num_threads(), one_at_a_time=one_at_a_time,
        )  # fmt: skip
    except Unsupported as reason:
        if settings.named:
            raise Failure(
                "R321", f"ctranslate2 was asked for and {reason}", "take `engine: auto` or `engine: transformers`"
            ) from reason
        return reference(f"ctranslate2 {reason}")


def _require_positions(settings: GenerationSettings, config: Any, folder: Path) -> None:
    """A text that comes to the end of the model's table of positions would end the work in the middle; a model with a
    head over classes has none to write."""
    if has_classes(config):
        raise Failure("R225", f"the model in {folder} was saved with a head over classes: it writes no texts",
                      "name a model that was trained to write")  # fmt: skip
    positions = getattr(config, "max_position_embeddings", None)  # None: it has no table
    if positions is not None and (settings.max_length or 0) > positions:
        raise Failure(
            "R320", f"a text of {settings.max_length} tokens is asked for, and the model has {positions} positions",
            f"take {positions} or less (`max_length` of a generation, `--max-length` of `predict`)",
        )  # fmt: skip
