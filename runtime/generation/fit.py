"""What ctranslate2 makes of a merged generation config: the same as transformers, its own way, or nothing.

Both searches walk the same beams; they differ in when they stop and in what forbidding a token does to the
others' probabilities. Compared line by line: transformers 5.23 `_beam_search`, ctranslate2 4.8 `decoding.cc`.
"""

from __future__ import annotations

from typing import Any

# Fields of a GenerationConfig that ctranslate2 has nothing for, and the value with which they do nothing.
_NOTHING_FOR: dict[str, tuple[Any, ...]] = {
    "repetition_penalty": (None, 1.0),
    "encoder_repetition_penalty": (None, 1.0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "num_beam_groups": (None, 1),
    "diversity_penalty": (None, 0.0),
    "guidance_scale": (None, 1.0),
    "renormalize_logits": (None, False),
    "exponential_decay_length_penalty": (None,),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
    "sequence_bias": (None,),
    "force_words_ids": (None,),
    "constraints": (None,),
    "penalty_alpha": (None,),
    "watermarking_config": (None,),
}


def lacking(config: Any, *, sampling: bool) -> str | None:
    """The setting that ctranslate2 has nothing for, with its value; None: there is no such setting."""
    if sampling:
        return "sampling (its draws depend on how the work is shared out)"
    for name, values in _NOTHING_FOR.items():
        value = getattr(config, name, None)
        if value not in values:
            return f"{name}: {value}"
    if config.early_stopping == "never":
        return "early_stopping: never"
    words = config.bad_words_ids
    if words and words != [[config.pad_token_id]]:
        return f"bad_words_ids: {words}"
    for name in ("eos_token_id", "forced_eos_token_id"):
        value = getattr(config, name)
        if isinstance(value, list) and len(value) > 1:
            return f"{name}: {value}"
    return None


def differing(config: Any) -> str | None:
    """The setting that ctranslate2 understands in its own way, with its value and the difference in words; None:
    it finds what transformers finds.

    With beams, transformers stops as ctranslate2 does only where `early_stopping` is on, or where no length
    penalty can make a longer text better.
    """
    minimum = config.min_new_tokens or (config.min_length or 0) - 1
    if minimum > 0:
        return f"min_length: {config.min_length} (it scores the other tokens as if the end did not exist)"
    if config.no_repeat_ngram_size:
        size = config.no_repeat_ngram_size
        return f"no_repeat_ngram: {size} (it scores the other tokens as if the forbidden did not exist)"
    if (config.num_beams or 1) == 1:
        return None
    if config.forced_bos_token_id is not None:
        return f"forced_bos_token_id: {config.forced_bos_token_id} (it does not end a text right after it)"
    if config.length_penalty == 0:
        if config.early_stopping or (config.num_return_sequences or 1) > 1:
            return "length_penalty: 0 with early_stopping or n_best (it stops when the best beam has ended)"
    elif config.early_stopping is not True:
        return "early_stopping: false (it stops when as many beams have ended as there are)"
    return None
