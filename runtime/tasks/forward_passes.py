"""Forward passes over rows, for the tasks that write nothing: shared out among the ranks, and timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..data.batches import sorted_batches
from ..data.rows import Rows
from ..execution.context import Context
from ..execution.processes import num_cores
from ..failure import interrupted
from ..generation.speed import measure_alone, timed_passes
from ..models.families import count_parameters
from ..models.load import Precision, load_model, load_tokenizer, model_folder
from ..models.onnx_form import ENGINE as ONNX
from ..models.onnx_form import OnnxModel
from ..plan.plan import Stage
from ..plan.settings import BenchmarkSettings
from ..protocol import Timed

BATCH_TOKENS = 8192
ENGINE = "transformers"

Answer = TypeVar("Answer")


def over_ranks(
    rows: Rows,
    ids: Any,
    context: Context,
    on_progress: Callable[[int], None],
    answer: Callable[[Any], Sequence[Answer]],
) -> list[Answer]:
    """What `answer` gives for each of these rows, in their order, on every rank; each computes its share, and is asked
    for a batch of rows at a time.

    Raises `Failure` R300: asked to stop."""
    # Longest first, dealt out in turn: every rank gets about the same work.
    order = np.argsort(-rows.source_lengths[ids], kind="stable")
    mine = order[context.rank :: context.world]
    batches = sorted_batches(rows.source_lengths[ids[mine]], BATCH_TOKENS, even=True)
    found: dict[int, Answer] = {}
    for number in range(max(context.gather(len(batches)))):
        if number < len(batches):
            chosen = mine[batches[number]]
            found.update(zip(chosen.tolist(), answer(ids[chosen]), strict=True))
            on_progress(min(len(ids), len(found) * context.world))
        if context.stop_requested():
            raise interrupted(context.stage.id)
    everywhere = {i: one for part in context.gather(found) for i, one in part.items()}
    return [everywhere[i] for i in range(len(ids))]


# (model, tokenizer, rows, how many of them are asked for) -> what answers a batch of their ids
Prepare = Callable[[Any, Any, Rows, int], Callable[[Any], Any]]


@dataclass(frozen=True)
class Forwards:
    """What is timed, in a process of its own: a model of a folder over the first examples of a split of a data
    artifact, in batches of so many, `repeats` times after one warm-up. Tokens are in the rows; only padding them is
    part of it. `prepare`: a function of a module; `converted`: the form in which onnxruntime serves the model, None:
    transformers runs it."""

    prepare: Prepare
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
        model: Any
        if self.converted is None:
            model = load_model(self.folder, precision=self.precision).to(self.device)
            engine, device, parameters = ENGINE, self.device, count_parameters(model)
        else:
            model = OnnxModel(self.converted, num_cores())
            engine, device, parameters = ONNX, model.device, None
        answer = self.prepare(model, load_tokenizer(self.folder), rows, self.num_examples)

        def run(ids: Sequence[int], batch_size: int) -> int:
            """In batches of rows of like length, as generation has them; returns the tokens that were read."""
            chosen = np.asarray(ids)
            for part in sorted_batches(rows.source_lengths[chosen], None, batch_size):
                answer(chosen[part])
            return int(rows.source_lengths[chosen].sum())

        found = timed_passes(run, range(self.num_examples), self.batch_size, self.repeats, device, on_pass)
        note = "" if device == self.device else f"{engine} calculates on the CPU"
        return {"engine": engine, "note": note, "parameters": parameters, **found}


def timed_forwards(stage: Stage, context: Context, split: str, prepare: Prepare) -> list[Timed]:
    """Of a `benchmark` stage: forward passes over the first examples of a set, by transformers, or by what serves the
    model."""
    settings: BenchmarkSettings = stage.settings
    num_examples = min(settings.examples, Rows.open(context.inputs["data"], split).num_examples)
    job = Forwards(
        prepare, model_folder(context.inputs["model"]), context.inputs.get("converted"), settings.precision,
        context.device, context.inputs["data"], split, num_examples, settings.batch_size, settings.repeats,
    )  # fmt: skip
    name = ENGINE if settings.served is None else settings.served.engine
    return [Timed(name=name, num_examples=num_examples, measure=partial(measure_alone, job))]
