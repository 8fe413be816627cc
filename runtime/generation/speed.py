"""How fast a model answers, measured in a process of its own.

Engines in one process are in each other's way, also one after the other: each leaves threads behind, and where there
are more threads than cores OpenMP lets those that wait for each other sleep instead of spin. What is measured second
is then up to half as fast.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ..data.rows import Rows
from ..execution.other_work import OtherWork, wait_until_quiet
from ..execution.processes import num_cores
from ..failure import Failure
from ..models.families import count_parameters
from ..models.load import Precision
from ..plan.settings import GenerationSettings
from .choose import open_engine
from .engine import Engine, Hypothesis, Source
from .transformers_engine import TransformersEngine

# (items, how many at a time) -> the tokens that were written or, where nothing is written, read
Run = Callable[[Sequence[Any], int], int]

LATENCY_BATCHES = (1, 32)
LATENCY_SAMPLES = 16  # batches of one size at most


@dataclass(frozen=True)
class Job:
    """What is measured: an engine on a model `folder` (and its `converted` form), over the first examples of a split
    of a data artifact, in batches of so many, `repeats` times after one warm-up."""

    generation: GenerationSettings
    folder: Path
    converted: Path | None
    precision: Precision
    device: str
    data: Path
    split: str
    num_examples: int
    batch_size: int
    repeats: int

    def measure(self, on_pass: Callable[[int], None]) -> dict[str, Any]:
        rows = Rows.open(self.data, self.split)
        sources = [rows.source(i) for i in range(self.num_examples)]
        # Opened alike whatever the engine: batches one after the other, all threads at each.
        engine = open_engine(
            self.generation, self.folder, self.converted, precision=self.precision, device=self.device,
            labels=rows.target(0), num_threads=num_cores(), one_at_a_time=True, with_scores=False,
        )  # fmt: skip
        found = timed_passes(partial(_write, engine), sources, self.batch_size, self.repeats, self.device, on_pass)
        return {
            "engine": engine.name,
            "note": engine.note,
            "parameters": count_parameters(engine.model) if isinstance(engine, TransformersEngine) else None,
            "beams": engine.width,
            **found,
        }


class Measurable(Protocol):
    """What can be measured in a process of its own: it is pickled on the way there."""

    def measure(self, on_pass: Callable[[int], None]) -> dict[str, Any]:
        """Its record, as `measure_alone` returns it."""


def measure_alone(job: Measurable, on_pass: Callable[[int], None]) -> dict[str, Any]:
    """{engine, note, parameters, beams of what writes, examples_per_second, tokens_per_second, seconds, latency_ms,
    other_work}.

    `engine` is the one that really worked, `note` why it is not the one that was named. `parameters` None: the
    engine does not tell. `on_pass(n)` is called after each pass. Raises what opening and writing raise, and
    `Failure` R405: the process was killed.
    """
    spawning = multiprocessing.get_context("spawn")  # a fork would take over our threads
    ours, theirs = spawning.Pipe(duplex=False)
    process = spawning.Process(target=_work, args=(job, theirs), daemon=True, name="measuring speed")
    process.start()
    theirs.close()
    try:
        while True:
            told = ours.recv()
            if isinstance(told, BaseException):
                raise told
            if isinstance(told, dict):
                return told
            on_pass(told)
    except EOFError:
        process.join()
        raise Failure(
            "R405", f"the process that measured the speed ended without a word (exit code {process.exitcode})",
            "something outside killed it, for example for memory; the same command measures again", exit_code=75,
        ) from None  # fmt: skip
    finally:
        process.kill()
        process.join()
        ours.close()


def _work(job: Measurable, parent: Connection) -> None:
    try:
        torch.set_num_threads(num_cores())  # the other ranks wait
        parent.send(job.measure(parent.send))
    except Failure as failure:
        parent.send(failure)
    except Exception as error:  # as it is: no memory and a full disk have diagnoses of their own
        traceback.print_exc()  # into the log, what crosses has none
        parent.send(error)


def timed_passes(
    run: Run, items: Sequence[Any], batch_size: int, repeats: int, device: str, on_pass: Callable[[int], None]
) -> dict[str, Any]:
    """{examples_per_second, tokens_per_second, seconds, latency_ms, other_work} of `repeats` passes over the items,
    after one to warm up."""
    if device == "cpu":
        wait_until_quiet()  # the driver may still log the stage before
    seconds: list[float] = []
    num_tokens = 0
    others = OtherWork()
    for repeat in range(repeats + 1):
        elapsed, num_tokens = _timed(run, items, batch_size)
        if repeat:
            seconds.append(elapsed)
        on_pass(repeat + 1)
    other_work = round(others.cores(), 2) if device == "cpu" else 0.0
    median = statistics.median(seconds)
    return {
        "other_work": other_work,
        "examples_per_second": len(items) / median,
        "tokens_per_second": num_tokens / median,
        "seconds": seconds,
        "latency_ms": {
            str(size): _latency(run, items, size)
            for size in dict.fromkeys(min(size, len(items)) for size in LATENCY_BATCHES)
        },
    }


def _latency(run: Run, items: Sequence[Any], size: int) -> dict[str, float]:
    """Milliseconds from inputs to answers, of batches of `size` examples in the order of the data; a last batch that
    is smaller is left out, unless it is the only one."""
    starts = range(0, max(1, len(items) - size + 1), size)
    parts = [items[start : start + size] for start in starts][:LATENCY_SAMPLES]
    milliseconds = [1000 * _timed(run, part, size)[0] for part in parts]
    return {f"p{share}": float(np.percentile(milliseconds, share)) for share in (5, 50, 95)}


def _timed(run: Run, items: Sequence[Any], batch_size: int) -> tuple[float, int]:
    """(seconds, tokens)."""
    _synchronize()
    started = time.perf_counter()
    num_tokens = run(items, batch_size)
    _synchronize()
    return time.perf_counter() - started, num_tokens


def _write(engine: Engine, sources: Sequence[Source], batch_size: int) -> int:
    """Returns the tokens written."""
    num_tokens = 0

    def on_batch(_: Sequence[int], found: Sequence[Sequence[Hypothesis]]) -> None:
        nonlocal num_tokens
        num_tokens += sum(hypotheses[0].num_tokens for hypotheses in found)

    engine.generate(sources, on_batch, batch_size=batch_size)
    return num_tokens


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
