"""What every generation engine is given and gives back: one interface, whatever does the work.

An engine is a function `generate_batches(model, tokenizer, rows, ids, settings, device, ...) -> texts`, in the
order of the ids; this module has the parts that must not differ between engines: how the plan's settings
meet the checkpoint's own, and in which language a multilingual model answers.
"""

from __future__ import annotations

import copy
from typing import Any

from ..data.rows import Rows
from ..plan import GenerationSettings

# plan setting -> field of a transformers GenerationConfig
FIELDS = {
    "beams": "num_beams",
    "length_penalty": "length_penalty",
    "min_length": "min_length",
    "max_length": "max_length",
    "no_repeat_ngram": "no_repeat_ngram_size",
    "early_stopping": "early_stopping",
}


def merged_config(model: Any, settings: GenerationSettings) -> Any:
    """The checkpoint's generation config with the plan's settings over it (a copy). Lengths in tokens.

    A plan that shortens `max_length` under the checkpoint's `min_length` means the shorter one.
    """
    config = copy.deepcopy(model.generation_config)
    for name, field in FIELDS.items():
        value = getattr(settings, name)
        if value is not None:
            setattr(config, field, value)
    if settings.max_length is not None:
        config.max_new_tokens = None
        if settings.min_length is None and (config.min_length or 0) > settings.max_length:
            config.min_length = 0
    if settings.min_length is not None:
        config.min_new_tokens = None
    if config.num_beams in (None, 1):
        # Beam-only settings without beams are warned about on every call.
        config.length_penalty = 1.0
        config.early_stopping = False
    config.do_sample = False
    config.temperature = config.top_k = config.top_p = None
    return config


def answer_in_language(config: Any, model: Any, rows: Rows) -> None:
    """Make a multilingual model answer in the language of the rows' targets, whose labels hold its code.

    mBART-25 ends them with the code and starts the decoder with it (its pre-trained checkpoint names no start
    at all, domain facts 10.2); mBART-50 begins them with it, after the end token as start.
    """
    if model.config.model_type != "mbart":
        return
    labels = rows.target(0)
    first, last = int(labels[0]), int(labels[-1])
    end = config.eos_token_id
    if last == (end[0] if isinstance(end, list) else end):
        config.forced_bos_token_id = first
    else:
        config.decoder_start_token_id = last
