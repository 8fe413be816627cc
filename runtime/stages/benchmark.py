"""The `benchmark` stage: how fast a model generates, or classifies, on one device with nothing else at work.

speed.json   {device, engine, threads, batch_size, examples, examples_per_second, tokens_per_second,
              latency_ms_per_example, seconds: [one a pass], beams, other_work, parameters, note, engines}

`engines` has a record for each engine that can be this model: {examples_per_second, tokens_per_second, seconds, beams,
other_work, latency_ms: {"1": {p5, p50, p95}, "32": {...}}}, latencies of a whole batch of so many examples (32, or
all of fewer), in milliseconds. `other_work`: cores of ours that others used meanwhile; 0.0 on an accelerator, where it
matters little; `beams`: of what writes. The rest is that of the plan's engine, so that models are compared like with
like.
"""

from __future__ import annotations

import json
from typing import Any

import torch

from ..data.rows import split_names
from ..execution.context import Context
from ..execution.processes import num_cores
from ..extensions import TASKS
from ..failure import Failure
from ..plan.plan import Stage
from ..plan.settings import BenchmarkSettings
from ..protocol import StageKind

MEASURED = ("examples_per_second", "tokens_per_second", "seconds", "beams", "other_work")  # of the plan's engine, too


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """One warm-up, then `repeats` timed passes; the median counts (domain facts 6.4: decoding included)."""
    settings: BenchmarkSettings = stage.settings
    split = next(name for name in split_names(context.inputs["data"]) if name.startswith("test."))
    engines: dict[str, Any] = {}
    parameters: int | None = None  # nobody counts those of an export
    notes: list[str] = []
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # what earlier stages left is no use to the process that measures
    forms = TASKS[settings.task].timed(stage, context, split)
    with context.progress.task("measuring speed", len(forms) * (settings.repeats + 1), "passes") as update:
        for number, form in enumerate(forms):
            if form.name in engines:
                continue  # the plan's engine could not, and this one took its place
            before = number * (settings.repeats + 1)

            def on_pass(done: int, before: int = before) -> None:
                update(before + done)

            try:
                found = form.measure(on_pass)
            except Failure as failure:
                if not engines or failure.code == "R405":
                    raise
                continue  # the other engine cannot do what the plan's can
            notes.append(found.pop("note"))
            parameters = found.pop("parameters") or parameters
            engines[found.pop("engine")] = found
    resolved, measured = next(iter(engines.items()))
    on_cpu = context.device == "cpu" or settings.served is not None
    result = {
        "device": settings.device if settings.served is None or context.device == "cpu" else "cpu",
        "engine": resolved,
        "note": notes[0],
        "threads": num_cores() if on_cpu else 1,
        "batch_size": settings.batch_size,
        "examples": forms[0].num_examples,
        **{name: measured[name] for name in MEASURED if name in measured},
        "latency_ms_per_example": 1000 / measured["examples_per_second"],
        "parameters": parameters,
        "engines": engines,
    }
    text = json.dumps(result, indent=1, sort_keys=True, allow_nan=False)
    (context.folder / "speed.json").write_text(text + "\n", "utf-8")
    context.journal.log({"speed/examples_per_second": measured["examples_per_second"]}, 0)
    line = ", ".join(
        f"{found['examples_per_second']:.1f} examples/s by {name}{_latencies(found)}"
        for name, found in engines.items()
    )
    return {**result, "line": line + (f"; {notes[0]}" if notes[0] else "")}


def _latencies(found: dict[str, Any]) -> str:
    """Of what writes nothing: how long a batch takes that is given to it alone."""
    if "beams" in found:
        return ""
    return "".join(f", {size} in {one['p50']:.3g} ms" for size, one in found["latency_ms"].items())


BENCHMARK = StageKind(run=run, parallel=False)
