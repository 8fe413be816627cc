"""How a search is set: the plan's generation settings over the checkpoint's own, and the language of the answers.

In: a checkpoint's generation config, the plan's settings, the labels of any example. Out: one merged config
that every engine works from, so that no two engines can understand a setting differently.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from ..models.families import family_of
from ..plan.settings import GenerationSettings

# plan setting -> field of a transformers GenerationConfig
FIELDS = {
    "beams": "num_beams",
    "length_penalty": "length_penalty",
    "min_length": "min_length",
    "max_length": "max_length",
    "no_repeat_ngram": "no_repeat_ngram_size",
    "early_stopping": "early_stopping",
}


def merged_config(own: Any, settings: GenerationSettings) -> Any:
    """The checkpoint's generation config `own` with the plan's settings over it (a copy). Lengths in tokens.

    A plan that shortens `max_length` under the checkpoint's `min_length` means the shorter one. Where the checkpoint
    says nothing of how long a text may become, and the plan does not ask for a length either, the plan's default
    counts. Sampling takes one token after the other: it has no beams.
    """
    config = copy.deepcopy(own)
    for name, field in FIELDS.items():
        value = getattr(settings, name)
        if value is not None:
            setattr(config, field, value)
    longest, default = settings.max_length, settings.default_max_length
    if longest is None and config.max_length is None and config.max_new_tokens is None:
        longest = config.max_length = default
    if longest is not None:
        config.max_new_tokens = None
        if settings.min_length is None and (config.min_length or 0) > longest:
            config.min_length = 0
    if settings.min_length is not None:
        config.min_new_tokens = None
    if settings.sampling is not None:
        config.num_beams = 1
    if config.num_beams in (None, 1):
        # Beam-only settings without beams are warned about on every call.
        config.length_penalty = 1.0
        config.early_stopping = False
    config.do_sample = False
    config.temperature = config.top_k = config.top_p = None
    config.num_return_sequences = settings.n_best or 1 if settings.sampling is None else 1
    return config


def length_penalty(own: Any, settings: GenerationSettings) -> float:
    """The exponent of the length in a hypothesis's score, also of one that was not found by beams."""
    asked = settings.length_penalty if settings.length_penalty is not None else own.length_penalty
    return 1.0 if asked is None else float(asked)


def has_languages(tokenizer: Any) -> bool:
    """Does it put the code of a language into every sequence? Of mBART's kind there are models without (BARThez)."""
    return hasattr(tokenizer, "tgt_lang")


def answer_in_language(config: Any, model_type: str, labels: Sequence[int] | Any) -> None:
    """Make a multilingual model answer in the language of the targets, whose labels hold its code.

    mBART-25 ends them with the code and starts the decoder with it (its pre-trained checkpoint names no start
    at all, domain facts 10.2); mBART-50 begins them with it, after the end token as start.
    """
    if family_of(model_type).decoder_start != "language":
        return
    first, last = int(labels[0]), int(labels[-1])
    if last == end_token(config):
        config.forced_bos_token_id = first
    else:
        config.decoder_start_token_id = last


def end_token(config: Any) -> int:
    """The id that ends a text (the first, of several)."""
    end = config.eos_token_id
    return int(end[0] if isinstance(end, list) else end)


def limit_of(config: Any) -> int:
    """The most tokens after the decoder's start token. `max_length` counts that one too."""
    if config.max_new_tokens is not None:
        return int(config.max_new_tokens)
    return int(config.max_length if config.max_length is not None else 21) - 1
