"""The training rows -> a label for each, shard by shard, on all ranks (generation/rounds.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.rows import Rows
from ..execution.context import Context
from ..generation.choose import open_engine
from ..generation.engine import Engine, Hypothesis, written_by
from ..generation.rounds import OnProgress, Work, work_in_rounds
from ..generation.shards import Shard
from ..models.load import model_folder
from ..plan.settings import PseudoLabelSettings
from .prepare import LABELS
from .quality import asked, best, failed_rule, proxy, quality
from .record import Label, source_hash


def label_shards(rows: Rows, shards: Sequence[Shard], folder: Path, context: Context) -> str:
    """Write those of the shards that are not in the folder, as many at a time as there are ranks. Returns why the
    engine was not the one that the plan names; empty: it was, or none was needed.

    Raises `Failure` R300 (asked to stop), R22x (the model), R32x (the engine).
    """
    settings: PseudoLabelSettings = context.stage.settings
    engine: Engine | None = None

    def open_work() -> Work:
        nonlocal engine
        if settings.source == "file":
            return lambda shard, on_progress: _lines(_take(rows, shard, settings))
        engine = opened = _engine(rows, settings, context)
        return lambda shard, on_progress: _lines(_generate(opened, rows, shard, settings, on_progress))

    work_in_rounds(shards, folder, context, "labelling", open_work)
    return "" if engine is None else written_by(engine)


def label_of(
    row: Mapping[str, Any],
    text: str | None,
    score: float | None,
    settings: PseudoLabelSettings,
    at_limit: int | None = None,
) -> Label:
    """The label of a raw row {"id", "source", "target"}, held to the rules. `text` None: there is none; `at_limit`: the
    length limit at which it ends."""
    values = {} if text is None else quality(asked(settings), text, row["target"], settings.scoring)
    return Label(
        id=row["id"],
        source_sha256=source_hash(row["source"]),
        text=text,
        score=score,
        quality=values,
        dropped="missing" if text is None else failed_rule(settings, text, row["target"], values),
        at_limit=at_limit,
    )


def _engine(rows: Rows, settings: PseudoLabelSettings, context: Context) -> Engine:
    assert settings.generation is not None and settings.precision is not None  # of a labeller that writes
    return open_engine(
        settings.generation,
        model_folder(context.inputs["model"]),
        context.inputs.get("converted"),
        precision=settings.precision,
        device=context.device,
        labels=np.load(rows.folder / LABELS),
    )


def _lines(labels: Sequence[Label]) -> list[str]:
    return [label.line() for label in labels]


def _take(rows: Rows, shard: Shard, settings: PseudoLabelSettings) -> list[Label]:
    """The labels that a file has: they stand in the raw rows."""
    found = (rows.raw(i) for i in shard.tolist())
    return [label_of(row, row.get("label"), None, settings) for row in found]


def _generate(
    engine: Engine, rows: Rows, shard: Shard, settings: PseudoLabelSettings, on_progress: OnProgress
) -> list[Label]:
    """The labels of a shard; of several texts the one closest to the original target, of equals the likeliest."""
    ids = shard.tolist()
    found: dict[int, Label] = {}

    def on_batch(positions: Sequence[int], hypotheses: Sequence[Sequence[Hypothesis]]) -> None:
        for position, texts in zip(positions, hypotheses, strict=True):
            row, chosen = rows.raw(ids[position]), 0
            if len(texts) > 1:
                written = [text.text for text in texts]
                chosen = best(proxy(settings.task), written, row["target"], settings.scoring)
            best_one = texts[chosen]
            at_limit = engine.limit + 1 if best_one.num_tokens >= engine.limit else None
            found[int(position)] = label_of(row, best_one.text, best_one.score, settings, at_limit)
        on_progress(len(found))

    engine.generate([rows.source(i) for i in ids], on_batch, ids=ids)
    return [found[position] for position in range(len(ids))]
