"""Shards that are not done -> done, on all ranks, in rounds.

In each round every rank does one shard. A shard that is done stays done. After each round the ranks agree on
whether they were asked to stop.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ..execution.context import Context
from ..failure import interrupted
from .shards import Shard, pending, write_shard

OnProgress = Callable[[int], None]  # called with the number of rows of a shard that are done
Work = Callable[[Shard, OnProgress], Sequence[str]]  # the lines of a shard, in its order


def work_in_rounds(
    shards: Sequence[Shard], folder: Path, context: Context, title: str, open_work: Callable[[], Work], note: str = ""
) -> None:
    """Write those of the shards that are not in the folder, as many at a time as there are ranks.

    `title` and `note` stand on the progress bar. `open_work` is asked for once, where there is something to do.
    The time that was taken is noted in the scratch folder, where the worker looks for it.

    Raises `Failure` R300 (asked to stop), and what the work raises.
    """
    todo: list[int] = context.gather(pending(folder, len(shards)))[0]
    num_rows = sum(map(len, shards))
    done = num_rows - sum(len(shards[number]) for number in todo)
    work = open_work() if todo else None
    clock = _Clock(context.scratch / "seconds.json")
    with context.progress.task(title, num_rows, "examples") as update:
        update(done, note)
        for start in range(0, len(todo), context.world):
            together = todo[start : start + context.world]
            if work is not None and context.rank < len(together):
                shard = shards[together[context.rank]]
                lines = work(shard, _Everywhere(lambda ready: update(ready, note), done, len(together)))
                write_shard(folder, together[context.rank], lines)
            done += sum(len(shards[number]) for number in together)
            update(done, note)
            if context.is_rank_zero:
                clock.note()
            if context.stop_requested():
                raise interrupted(context.stage.id)
    context.barrier()


class _Everywhere:
    """What all ranks have done, as one of them sees it: the shards of a round are alike."""

    def __init__(self, update: OnProgress, before: int, ranks: int) -> None:
        self._update, self._before, self._ranks = update, before, ranks

    def __call__(self, done: int) -> None:
        self._update(self._before + self._ranks * done)


class _Clock:
    """The time that the stage has taken, interrupted attempts included, noted where the worker looks for it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._begun = time.monotonic()
        self._before = 0.0
        with suppress(OSError, ValueError, TypeError):  # nothing was noted, or a power cut left none of it
            self._before = float(json.loads(file.read_text("utf-8")))

    def note(self) -> None:
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(self._before + time.monotonic() - self._begun, allow_nan=False), "utf-8")
        temporary.replace(self._file)
