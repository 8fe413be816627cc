"""An architecture and a seed -> a model with random weights, as its family draws them.

The token ids of the config and of the tokenizer must be the same ones; those that the config does not
name are the tokenizer's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch

from ..failure import Failure
from ..protocol import Family
from .families import family_of
from .load import CLASSIFYING, quiet, untie_head

# Accepted by every config class, though not a field of each (T5 has no start token of its own).
_COMMON = {"decoder_start_token_id", "bos_token_id", "forced_bos_token_id", "forced_eos_token_id",
           "tie_word_embeddings", "scale_decoder_outputs"}
# Sequences of a family without position embeddings may be of any length; generation must end somewhere.
_MAX_LENGTH_WITHOUT_POSITIONS = 512


def build(family: str, config: Mapping[str, Any], seed: int, tokenizer: Any, num_labels: int | None = None) -> Any:
    """A model of `family` from the constructor arguments of its transformers config, in fp32, in train mode, with a
    head over `num_labels` classes, or over the vocabulary.

    The same seed gives the same weights. A T5 whose config says `tie_word_embeddings: false` (v1.1) gets
    a head of its own. The generation config, of one that writes, names the special tokens, one beam, and the longest
    length.

    Raises `Failure` R221 (family), R227 (an argument that the family does not know or take), R228 (the
    tokenizer has more tokens than the model, or other special tokens).
    """
    row = family_of(family)
    arguments = {name: value for name, value in config.items() if name != "model_type"}
    check_names(row, arguments)
    arguments.update(_token_ids(row, arguments, tokenizer))
    own_head = row.head_scale is not None and False in (
        arguments.get("tie_word_embeddings"), arguments.get(row.head_scale))
    model = construct(row, arguments, seed, own_head=own_head, num_labels=num_labels)
    rows = model.config.vocab_size
    if len(tokenizer) > rows:
        raise Failure("R228", f"the tokenizer has {len(tokenizer):,} tokens, the model {rows:,}",
                      "give the architecture at least as many", spec_path="teacher.tokenizer")
    if model.can_generate():
        model.generation_config = _generation_config(model.config)
    return model


def construct(
    family: Family, arguments: Mapping[str, Any], seed: int, *, own_head: bool, num_labels: int | None = None
) -> Any:
    """A random fp32 model from config arguments, with a head over `num_labels` classes, or over the vocabulary, with a
    matrix of its own if asked.

    The global random state stays as it was. Raises `Failure` R227.
    """
    import transformers

    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            classes = {} if num_labels is None else {"num_labels": num_labels}
            config = transformers.CONFIG_MAPPING[family.model_type](**{**arguments, **classes})
            auto_class = family.auto_class if num_labels is None else CLASSIFYING
            model = getattr(transformers, auto_class).from_config(config, dtype=torch.float32)
        except Exception as error:
            reason = str(error).strip().splitlines() or [error.__class__.__name__]
            raise Failure("R227", f"{family.model_type} takes no such architecture: {' '.join(reason[:2])}",
                          "change the sizes", spec_path="teacher.architecture") from error
        if own_head:
            untie_head(model)
    return model


def check_names(family: Family, arguments: Mapping[str, Any]) -> None:
    """Does the family's config know these names? transformers keeps any other name and does nothing with it.

    Raises `Failure` R227.
    """
    unknown = sorted(set(arguments) - _fields(family) - _COMMON)
    if unknown:
        raise Failure("R227", f"{', '.join(unknown)}: a {family.model_type} config has no such field",
                      "compile the spec again with the installed version", spec_path="teacher.architecture")


def _fields(family: Family) -> set[str]:
    from transformers import CONFIG_MAPPING

    return {field.name for field in fields(CONFIG_MAPPING[family.model_type])}


def _token_ids(family: Family, arguments: Mapping[str, Any], tokenizer: Any) -> dict[str, int | None]:
    """The ids that the arguments leave out. Raises R228 where the arguments and the tokenizer differ."""
    ids: dict[str, int | None] = {}
    for name in ("pad_token_id", "eos_token_id", "bos_token_id"):
        given, real = arguments.get(name), getattr(tokenizer, name)
        if given is not None and real is not None and given != real:
            raise Failure("R228", f"{name} is {given} in the architecture and {real} in the tokenizer",
                          "leave it out of the architecture", spec_path="teacher.architecture")
        if given is None:
            ids[name] = real  # None too: the class's default is the id of the published checkpoints
    known = {**arguments, **ids}
    for name in ("pad_token_id", "eos_token_id") if family.decoder_start is not None else ("pad_token_id",):
        if known.get(name) is None:
            raise Failure("R228", f"the tokenizer has no {name.split('_')[0]} token",
                          "train or choose one that has it", spec_path="teacher.tokenizer")
    if family.decoder_start is not None and known.get("decoder_start_token_id") is None:
        ids["decoder_start_token_id"] = _decoder_start(family, known, tokenizer)
    if "forced_eos_token_id" not in arguments and "forced_eos_token_id" in _fields(family):
        ids["forced_eos_token_id"] = known["eos_token_id"]
    return ids


def _decoder_start(family: Family, ids: Mapping[str, Any], tokenizer: Any) -> int:
    if family.decoder_start != "language":
        return int(ids[f"{family.decoder_start}_token_id"])
    language = getattr(tokenizer, "tgt_lang", None)
    start = tokenizer.convert_tokens_to_ids(language) if language is not None else None
    if start is None or start == tokenizer.unk_token_id:
        raise Failure("R228", f"{family.model_type} starts with the token of the target language, and the "
                      "tokenizer names none", "give data.target_language", spec_path="data.target_language")
    return int(start)


def _generation_config(config: Any) -> Any:
    from transformers import GenerationConfig

    longest = getattr(config, "max_position_embeddings", None) or _MAX_LENGTH_WITHOUT_POSITIONS
    return GenerationConfig(
        num_beams=1, max_length=longest, pad_token_id=config.pad_token_id, eos_token_id=config.eos_token_id,
        bos_token_id=getattr(config, "bos_token_id", None),
        decoder_start_token_id=getattr(config, "decoder_start_token_id", None),
        forced_eos_token_id=getattr(config, "forced_eos_token_id", None),
    )
