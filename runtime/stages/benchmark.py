"""The `benchmark` stage: how fast a model generates, on one device with nothing else at work.

speed.json   {device, engine, threads, batch_size, examples, examples_per_second, tokens_per_second,
              latency_ms_per_example, seconds: [one a pass], beams, other_work, parameters, note, engines}

`engines` has a record for each engine that can be this model: {examples_per_second, tokens_per_second, seconds, beams,
other_work, latency_ms: {"1": {p50, p95}, "32": {...}}}, latencies of a whole batch of so many examples (32, or all
of fewer), in milliseconds. `other_work`: cores of ours that others used meanwhile; 0.0 on an accelerator, where it
matters little.
The rest is that of the plan's engine, so that models are compared like with like.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..context import Context
from ..data.rows import Rows, split_names
from ..failure import Failure
from ..generation.engine import Engine, Hypothesis, Source, open_engine
from ..generation.transformers_engine import TransformersEngine
from ..models.families import count_parameters
from ..models.load import model_folder
from ..other_work import OtherWork, wait_until_quiet
from ..plan import BenchmarkSettings, GenerationSettings, Stage
from ..processes import num_cores

PARALLEL = False
MODELS = ("benchmark-teacher", "benchmark-student")
MEASURED = ("examples_per_second", "tokens_per_second", "seconds", "beams", "other_work")  # also of the plan's engine
LATENCY_BATCHES = (1, 32)
LATENCY_SAMPLES = 16  # batches of one size at most


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """One warm-up, then `repeats` timed passes; the median counts (domain facts 6.4: decoding included)."""
    settings: BenchmarkSettings = stage.settings
    assert settings.generation is not None  # of tasks that write text
    split = next(name for name in split_names(context.inputs["data"]) if name.startswith("test."))
    rows = Rows.open(context.inputs["data"], split)
    num_examples = min(settings.examples, rows.num_examples)
    sources = [rows.source(i) for i in range(num_examples)]
    threads = torch.get_num_threads()
    torch.set_num_threads(num_cores())  # the other ranks wait
    engines: dict[str, Any] = {}
    parameters: int | None = None  # nobody counts those of an export
    note = resolved = ""
    try:
        chosen = _engines(settings, stage)
        with context.progress.task("measuring speed", len(chosen) * (settings.repeats + 1), "passes") as update:
            for number, generation in enumerate(chosen):
                # The same way of opening for both: batches one after the other, all threads at each.
                engine = _opened(generation, stage, context, rows.target(0), optional=number > 0)
                if engine is None or engine.name in engines:
                    continue
                done = number * (settings.repeats + 1)
                if context.device == "cpu":
                    wait_until_quiet()  # the driver may still log the stage before
                found = _measure(engine, sources, settings, lambda i, done=done: update(done + i))
                engines[engine.name] = found if context.device == "cpu" else {**found, "other_work": 0.0}
                if number == 0:
                    resolved, note = engine.name, engine.note
                if isinstance(engine, TransformersEngine):
                    parameters = count_parameters(engine.model)
    finally:
        torch.set_num_threads(threads)
    measured = engines[resolved]
    result = {
        "device": settings.device,
        "engine": resolved,
        "note": note,
        "threads": num_cores() if context.device == "cpu" else 1,
        "batch_size": settings.batch_size,
        "examples": num_examples,
        **{name: measured[name] for name in MEASURED},
        "latency_ms_per_example": 1000 / measured["examples_per_second"],
        "parameters": parameters,
        "engines": engines,
    }
    (context.folder / "speed.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", "utf-8")
    context.journal.log({"speed/examples_per_second": measured["examples_per_second"]}, 0)
    line = ", ".join(f"{found['examples_per_second']:.1f} examples/s by {name}" for name, found in engines.items())
    line += f"; {note}" if note else ""
    return {**result, "line": line}


def _engines(settings: BenchmarkSettings, stage: Stage) -> list[GenerationSettings]:
    """The plan's first, then the other: ctranslate2 only where the plan has a model in its form. An export is one
    form of a model that another stage measures."""
    own = settings.generation
    assert own is not None
    if own.engine == "transformers" or stage.id not in MODELS:
        return [own]
    return [own, replace(own, engine="transformers", compute_type=None, named=False)]


def _opened(
    generation: GenerationSettings, stage: Stage, context: Context, labels: Source, *, optional: bool
) -> Engine | None:
    """None: an engine that is `optional` cannot do what the plan's can."""
    folder: Path = model_folder(context.inputs["model"])
    try:
        return open_engine(
            generation, folder, context.inputs.get("converted"), precision=stage.settings.precision,
            device=context.device, labels=labels, num_threads=num_cores(), one_at_a_time=True, with_scores=False,
        )  # fmt: skip
    except Failure:
        if not optional:
            raise
        return None


def _measure(engine: Engine, sources: Sequence[Source], settings: BenchmarkSettings, update: Any) -> dict[str, Any]:
    seconds: list[float] = []
    num_tokens = 0
    others = OtherWork()
    for repeat in range(settings.repeats + 1):
        elapsed, num_tokens = _timed(engine, sources, settings.batch_size)
        if repeat:
            seconds.append(elapsed)
        update(repeat + 1)
    other_work = round(others.cores(), 2)
    median = statistics.median(seconds)
    return {
        "other_work": other_work,
        "beams": engine.width,
        "examples_per_second": len(sources) / median,
        "tokens_per_second": num_tokens / median,
        "seconds": seconds,
        "latency_ms": {
            str(size): _latency(engine, sources, size)
            for size in dict.fromkeys(min(size, len(sources)) for size in LATENCY_BATCHES)
        },
    }


def _latency(engine: Engine, sources: Sequence[Source], size: int) -> dict[str, float]:
    """Milliseconds from sources to texts, of batches of `size` examples in the order of the data; a last batch that
    is smaller is left out, unless it is the only one."""
    starts = range(0, max(1, len(sources) - size + 1), size)
    parts = [sources[start : start + size] for start in starts][:LATENCY_SAMPLES]
    milliseconds = [1000 * _timed(engine, part, size)[0] for part in parts]
    return {"p50": float(np.percentile(milliseconds, 50)), "p95": float(np.percentile(milliseconds, 95))}


def _timed(engine: Engine, sources: Sequence[Source], batch_size: int) -> tuple[float, int]:
    """(seconds, tokens written)."""
    num_tokens = 0

    def on_batch(_: Sequence[int], found: Sequence[Sequence[Hypothesis]]) -> None:
        nonlocal num_tokens
        num_tokens += sum(hypotheses[0].num_tokens for hypotheses in found)

    _synchronize()
    started = time.perf_counter()
    engine.generate(sources, on_batch, batch_size=batch_size)
    _synchronize()
    return time.perf_counter() - started, num_tokens


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
