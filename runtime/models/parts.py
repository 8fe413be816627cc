"""Do the parts of a model folder go together? What transformers would take as it is, and fail on hours later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..failure import Failure
from .families import family_of

_IDS = ("pad_token_id", "eos_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id")


def check_parts(folder: Path, config: Any, tokenizer: Any) -> None:
    """`config`, `tokenizer`: of this folder. Raises `Failure` R228: tokens that the model has no row for, special
    tokens that are missing, beyond the vocabulary, or another tokenizer's."""
    rows = config.vocab_size
    # No text has the mask token, and a published BART has no row for its own.
    tokens = {token: id for token, id in tokenizer.get_vocab().items() if token != tokenizer.mask_token}
    last = max(tokens, key=lambda token: tokens[token])
    if tokens[last] >= rows:
        raise _failure(
            f"the tokenizer in {folder} has {tokens[last] + 1:,} tokens, the model {rows:,}: there is no embedding for "
            f"{last!r}",
            "call model.resize_token_embeddings(len(tokenizer)) and save both, or take the tokenizer that the model "
            "was trained with",
        )
    for name in _IDS:
        found = getattr(config, name, None)
        for id in found if isinstance(found, list) else [found]:
            if id is not None and not 0 <= id < rows:
                raise _failure(
                    f"{name} is {id} in the config.json of {folder}, and the model has {rows:,} tokens",
                    "take the config.json that came with the model",
                )
    for name in ("pad_token_id", "eos_token_id"):
        in_config, in_tokenizer = getattr(config, name, None), getattr(tokenizer, name)
        if isinstance(in_config, int) and in_tokenizer is not None and in_config != in_tokenizer:
            raise _failure(
                f"{name} is {in_config} in the config.json of {folder} and {in_tokenizer} in its tokenizer: it is "
                "another model's",
                "put the tokenizer there that the model was trained with",
            )
    has_start = family_of(config).decoder_start in ("eos", "pad")
    required = ["pad_token_id", *(["decoder_start_token_id"] if has_start else [])]
    for name in required:
        if getattr(config, name, None) is None:
            raise _failure(
                f"the config.json of {folder} has no {name}",
                f"add it: the id of the token that the model was trained with ({_usual(config, tokenizer, name)})",
            )


def num_embeddings(folder: Path) -> tuple[int, int] | None:
    """For how many tokens the model of a folder has embeddings, of sources and of targets; None: there is no model
    beside the tokenizer, or its config.json leaves it to its family."""
    try:
        tree = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    rows = tree.get("vocab_size")
    return (rows, tree.get("decoder_vocab_size") or rows) if isinstance(rows, int) else None


def _usual(config: Any, tokenizer: Any, name: str) -> str:
    which = "pad" if name == "pad_token_id" else family_of(config).decoder_start
    return f"usually {getattr(tokenizer, f'{which}_token_id')}, its {which} token"


def _failure(message: str, hint: str) -> Failure:
    return Failure("R228", message, hint, spec_path="teacher")
