"""The `benchmark` stage: how fast a model generates, on one device with nothing else at work.

speed.json   {device, engine, threads, batch_size, examples, examples_per_second, tokens_per_second,
              latency_ms_per_example, seconds: [one a pass], parameters}
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import numpy as np
import torch

from ..context import Context
from ..data.batches import sorted_batches
from ..data.rows import Rows, split_names
from ..generation.search import answer_in_language, merged_config
from ..generation.transformers_engine import generate_ids
from ..models.families import count_parameters
from ..models.load import load_model, load_tokenizer, model_folder
from ..plan import BenchmarkSettings, Stage
from ..processes import num_cores

PARALLEL = False


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """One warm-up, then `repeats` timed passes; the median counts (domain facts 6.4: decoding included)."""
    settings: BenchmarkSettings = stage.settings
    assert settings.generation is not None  # of tasks that write text
    folder = model_folder(context.inputs["model"])
    model = load_model(folder, precision=settings.precision).to(context.device)
    tokenizer = load_tokenizer(folder)
    split = next(name for name in split_names(context.inputs["data"]) if name.startswith("test."))
    rows = Rows.open(context.inputs["data"], split)
    config = merged_config(model.generation_config, settings.generation)
    answer_in_language(config, model.config.model_type, rows.target(0))
    num_examples = min(settings.examples, rows.num_examples)
    batches = [[rows.source(int(i)) for i in batch]
               for batch in sorted_batches(rows.source_lengths[:num_examples], None, settings.batch_size)]  # fmt: skip
    threads = torch.get_num_threads()
    torch.set_num_threads(num_cores())  # the other ranks wait
    seconds: list[float] = []
    num_tokens = 0
    try:
        with context.progress.task("measuring speed", settings.repeats + 1, "passes") as update:
            for repeat in range(settings.repeats + 1):
                _synchronize(context.device)
                started = time.perf_counter()
                num_tokens = 0
                for sources in batches:
                    output = generate_ids(model, sources, config, tokenizer.pad_token_id, context.device)
                    tokenizer.batch_decode(
                        output, skip_special_tokens=True, clean_up_tokenization_spaces=False
                    )
                    num_tokens += int((np.asarray(output.cpu()) != tokenizer.pad_token_id).sum())
                _synchronize(context.device)
                if repeat:
                    seconds.append(time.perf_counter() - started)
                update(repeat + 1)
    finally:
        torch.set_num_threads(threads)
    median = statistics.median(seconds)
    result = {
        "device": settings.device,
        "engine": settings.generation.engine,
        "threads": num_cores() if context.device == "cpu" else 1,
        "batch_size": settings.batch_size,
        "examples": num_examples,
        "examples_per_second": num_examples / median,
        "tokens_per_second": num_tokens / median,
        "latency_ms_per_example": 1000 * median / num_examples,
        "seconds": seconds,
        "parameters": count_parameters(model),
    }
    (context.folder / "speed.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", "utf-8")
    context.journal.log({"speed/examples_per_second": num_examples / median}, 0)
    return {**result, "line": f"{result['examples_per_second']:.1f} examples/s"}


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
