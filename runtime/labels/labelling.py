"""The training rows -> a label for each, shard by shard, on all ranks.

A shard that is done stays done. After each round, in which every rank does one, the ranks agree on whether they
were asked to stop.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..context import Context
from ..data.rows import Rows
from ..failure import interrupted
from ..generation.engine import Engine, Hypothesis, open_engine
from ..models.load import model_folder
from ..plan import PseudoLabelSettings
from .prepare import LABELS
from .quality import asked, best, proxy, quality
from .record import Label, source_hash
from .rules import failed_rule
from .shards import Shard, pending, write_shard

OnProgress = Callable[[int], None]  # called with the number of rows of a shard that are done
Work = Callable[[Shard, OnProgress], Sequence[Label]]


def label_shards(rows: Rows, shards: Sequence[Shard], folder: Path, context: Context) -> None:
    """Write those of the shards that are not in the folder, as many at a time as there are ranks.

    Raises `Failure` R300 (asked to stop), R22x (the model), R32x (the engine).
    """
    todo: list[int] = context.gather(pending(folder, len(shards)))[0]
    done = rows.num_examples - sum(len(shards[number]) for number in todo)
    work = _worker(rows, context) if todo else None
    clock = _Clock(context.scratch / "seconds.json")
    with context.progress.task("labelling", rows.num_examples, "examples") as update:
        update(done)
        for start in range(0, len(todo), context.world):
            together = todo[start : start + context.world]
            if work is not None and context.rank < len(together):
                shard = shards[together[context.rank]]
                labels = work(shard, _Everywhere(update, done, len(together)))
                write_shard(folder, together[context.rank], [label.line() for label in labels])
            done += sum(len(shards[number]) for number in together)
            update(done)
            if context.first:
                clock.note()
            if context.stop_requested():
                raise interrupted(context.stage.id)
    context.barrier()


def label_of(row: Mapping[str, Any], text: str | None, score: float | None, settings: PseudoLabelSettings) -> Label:
    """The label of a raw row {"id", "source", "target"}, held to the rules. `text` None: there is none."""
    values = {} if text is None else quality(asked(settings), text, row["target"])
    return Label(
        id=row["id"],
        source_sha256=source_hash(row["source"]),
        text=text,
        score=score,
        quality=values,
        dropped="missing" if text is None else failed_rule(settings, text, row["target"], values),
    )


def _worker(rows: Rows, context: Context) -> Work:
    settings: PseudoLabelSettings = context.stage.settings
    if settings.source == "file":
        return lambda shard, on_progress: _take(rows, shard, settings)
    assert settings.generation is not None and settings.precision is not None  # of a labeller that writes
    engine = open_engine(
        settings.generation,
        model_folder(context.inputs["model"]),
        context.inputs.get("converted"),
        precision=settings.precision,
        device=context.device,
        labels=np.load(rows.folder / LABELS),
    )
    return lambda shard, on_progress: _generate(engine, rows, shard, settings, on_progress)


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
                chosen = best(proxy(settings.task), [text.text for text in texts], row["target"])
            found[int(position)] = label_of(row, texts[chosen].text, texts[chosen].score, settings)
        on_progress(len(found))

    engine.generate([rows.source(i) for i in ids], on_batch, ids=ids)
    return [found[position] for position in range(len(ids))]


class _Everywhere:
    """What all ranks have done, as one of them sees it: the shards of a round are alike."""

    def __init__(self, update: Callable[..., None], before: int, ranks: int) -> None:
        self._update, self._before, self._ranks = update, before, ranks

    def __call__(self, done: int) -> None:
        self._update(self._before + self._ranks * done)


class _Clock:
    """The time that the stage has taken, interrupted attempts included, noted where the worker looks for it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._begun = time.monotonic()
        self._before = float(json.loads(file.read_text("utf-8"))) if file.is_file() else 0.0

    def note(self) -> None:
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(self._before + time.monotonic() - self._begun), "utf-8")
        temporary.replace(self._file)
