"""The reference engine: `generate` of transformers, for every model.

Sources are put into batches by length, longest first, within a budget of tokens; texts come back in the
order they were asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..data.batches import sorted_batches
from ..data.rows import Rows
from ..models.families import depths
from ..plan import GenerationSettings
from .engine import answer_in_language, merged_config

BATCH_TOKENS = 8192  # source tokens x beams that are worked on at once
MAX_ROWS = 256


def generate_batches(
    model: Any,
    tokenizer: Any,
    rows: Rows,
    ids: Sequence[int] | np.ndarray[Any, Any],
    settings: GenerationSettings,
    device: str | torch.device,
    on_progress: Callable[[int], None] | None = None,
    *,
    batch_size: int | None = None,
) -> list[str]:
    """Texts for the sources of these example ids, in their order, by a loaded model in eval mode.

    `batch_size` fixes the number of rows of a batch (for measuring speed); otherwise the token budget decides.
    `on_progress(done)` is called with the number of finished examples.
    """
    config = merged_config(model, settings)
    answer_in_language(config, model, rows)
    ids = np.asarray(ids, dtype=np.int64)
    lengths = rows.source_lengths[ids]
    budget = None if batch_size is not None else max(1, BATCH_TOKENS // max(1, config.num_beams or 1))
    texts: list[str] = [""] * len(ids)
    done = 0
    for batch in sorted_batches(lengths, budget, batch_size or MAX_ROWS):
        outputs = generate_ids(
            model, [rows.source(int(ids[i])) for i in batch], config, tokenizer.pad_token_id, device
        )
        decoded = tokenizer.batch_decode(
            outputs, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        for i, text in zip(batch, decoded, strict=True):
            texts[int(i)] = text.strip()
        done += len(batch)
        if on_progress is not None:
            on_progress(done)
    return texts


@torch.inference_mode()
def generate_ids(
    model: Any, sources: Sequence[Any], config: Any, pad_id: int, device: str | torch.device
) -> torch.Tensor:
    """Token ids (B, T) for one batch of source rows, padded on the right."""
    longest = max(len(source) for source in sources)
    input_ids = np.full((len(sources), longest), pad_id, np.int64)
    mask = np.zeros((len(sources), longest), np.int64)
    for row, source in enumerate(sources):
        input_ids[row, : len(source)] = source
        mask[row, : len(source)] = 1
    output: torch.Tensor = model.generate(
        input_ids=torch.from_numpy(input_ids).to(device),
        attention_mask=torch.from_numpy(mask).to(device),
        generation_config=config,
        **({} if config.use_cache is False else _cache(model)),
    )
    return output


def _cache(model: Any) -> dict[str, Any]:
    """A cache that grows as layers ask for it, where transformers would make one too short: it counts the
    layers of T5's encoder, and a deeper decoder then fails."""
    built = depths(model)
    if built["decoder"] <= built["encoder"]:
        return {}
    from transformers import DynamicCache, EncoderDecoderCache

    return {"past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache())}
