"""A model folder of transformers -> the same model for ctranslate2, proved on the spot.

The artifact holds `model.bin`, `config.json` and `shared_vocabulary.json` (ctranslate2's), the tokenizer and
the generation config (so that the folder can be served as it is), and `conversion.json`: {model_type,
compute_type, reason}. `reason` is null, or says why ctranslate2 cannot be this model; then nothing else is
there. The tokens are the model's rows, one to one, padding and rows without a token included: token ids go in
and come out unchanged.

Weights are mapped by ctranslate2's own loaders. What they read from a config and transformers 5 no longer has
is said here, on a copy; so is what they take from the tokenizer, and T5's scale, which they take from a field
that transformers 5 always sets. Source: domain facts 11.1, 11.2; ctranslate2/converters/transformers.py.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..models.families import classifies, family_of, head_scale
from ..models.load import load_model, load_tokenizer, quiet
from ..plan.settings import ComputeType
from .search import end_token

# What ctranslate2 calls a compute type. int8: weights of matrices in 8 bits, everything else in fp32.
COMPUTE_TYPES: dict[ComputeType, str] = {
    "fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8_float32"
}  # fmt: skip
# The largest mean difference of a token's log-probability from the original's: beyond, it is another model. What int8
# loses in rounding, on tokens that no model would write, stays below by far; a weight in the wrong place does not.
TOLERANCES: dict[ComputeType, float] = {"fp32": 1e-3, "bf16": 0.2, "fp16": 0.05, "int8": 2.0}


class NotConvertible(Exception):
    """Why ctranslate2 cannot be this model."""


def convert(folder: Path, output: Path, compute_type: ComputeType) -> str | None:
    """Write the artifact. Returns why ctranslate2 cannot be this model, or None: it is there, and gives the
    log-probabilities that the original gives.

    Raises `Failure` R221-R226 as `load_model` and `load_tokenizer` do.
    """
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    reason = None
    try:
        proof = _Proof(model)
        spec = _spec(model, tokenizer)
        spec.validate()
        spec.optimize(quantization=COMPUTE_TYPES[compute_type])
        spec.save(str(output))
        with quiet():
            model.generation_config.save_pretrained(output)
            tokenizer.save_pretrained(output)
        proof.check(output, compute_type)
    except NotConvertible as error:
        reason = str(error)
        for file in output.iterdir():
            if file.is_file():
                file.unlink()
    record = {"model_type": model.config.model_type, "compute_type": compute_type, "reason": reason}
    text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False)
    (output / "conversion.json").write_text(text + "\n", "utf-8")
    return reason


def _spec(model: Any, tokenizer: Any) -> Any:
    from ctranslate2.converters import transformers as loaders

    family = family_of(model)
    converter = family.converter
    if converter is None or classifies(model):
        raise NotConvertible(f"it has no place for models of the family {family.model_type}")
    if getattr(model.config, "share_encoder_decoder_embeddings", True) is False:
        raise NotConvertible("the encoder and the decoder have vocabularies of their own")
    config = copy.deepcopy(model.config)
    if converter.normalize is not None:
        config.normalize_before, config.normalize_embedding = converter.normalize
    own, model.config = model.config, config
    try:
        with torch.no_grad():
            spec = getattr(loaders, f"{converter.loader}Loader")().get_model_spec(model)
    except KeyError as error:
        raise NotConvertible(f"it does not know the activation {error}") from error
    finally:
        model.config = own
    if family.head_scale is not None:
        spec.decoder.scale_outputs = head_scale(model)
    tokens = vocabulary(tokenizer, model.get_output_embeddings().weight.shape[0])
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    start = decoder_start(model)
    unknown = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id
    spec.config.eos_token = tokens[end_token(model.generation_config)]
    spec.config.bos_token = spec.config.eos_token if start is None else tokens[start]
    spec.config.unk_token = tokens[unknown]
    # The language of the answer is no property of the model: each request says it.
    is_told = family.decoder_start == "language"
    spec.config.decoder_start_token = None if is_told or start is None else tokens[start]
    return spec


def decoder_start(model: Any) -> int | None:
    """The id that a text starts from; None: the model does not say."""
    start = model.generation_config.decoder_start_token_id
    return model.config.decoder_start_token_id if start is None else int(start)


def vocabulary(tokenizer: Any, num_rows: int) -> list[str]:
    """A token for each row of the embedding: the tokenizer's, or `<row 7>` where it has none or has it twice."""
    tokens: list[str] = []
    seen: set[str] = set()
    known = tokenizer.convert_ids_to_tokens(list(range(min(num_rows, len(tokenizer)))))
    for row, token in enumerate([*known, *[None] * (num_rows - len(known))]):
        name = token if token is not None and token not in seen else f"<row {row}>"
        tokens.append(name)
        seen.add(name)
    return tokens


class _Proof:
    """Sequences of any tokens, and the original's log-probabilities for them. Taken before the conversion:
    ctranslate2 quantizes weights where they lie."""

    @torch.inference_mode()
    def __init__(self, model: Any) -> None:
        generator = np.random.default_rng(0)
        num_rows = model.get_output_embeddings().weight.shape[0]
        end, start = end_token(model.generation_config), decoder_start(model)
        self.start = end if start is None else start
        self.starts_with_language = family_of(model).decoder_start == "language"
        self.sources = [[*generator.integers(0, num_rows, length).tolist(), end] for length in (3, 9, 17)]
        self.targets = [[*generator.integers(0, num_rows, length).tolist(), end] for length in (5, 2, 11)]
        self.expected = []  # (T,) each
        for source, target in zip(self.sources, self.targets, strict=True):
            decoder_input_ids = torch.tensor([[self.start, *target[:-1]]])
            logits = model(
                input_ids=torch.tensor([source]), decoder_input_ids=decoder_input_ids, use_cache=False
            ).logits[0]  # (T, V)
            scores = logits.float().log_softmax(-1)
            self.expected.append(scores[torch.arange(len(target)), torch.tensor(target)].numpy())

    def check(self, output: Path, compute_type: ComputeType) -> None:
        """On the CPU, whatever the type: what is held to the original is what was written."""
        import ctranslate2

        tokens = vocabulary_of(output)
        with quiet_ctranslate2():
            translator = ctranslate2.Translator(str(output), device="cpu", compute_type=_on_cpu(compute_type))
        prefix = [self.start] if self.starts_with_language else []
        found = translator.score_batch(
            [[tokens[i] for i in source] for source in self.sources],
            [[tokens[i] for i in [*prefix, *target[:-1]]] for target in self.targets],
            max_input_length=0,
        )
        for scored, expected in zip(found, self.expected, strict=True):
            difference = float(np.abs(np.asarray(scored.log_probs)[-len(expected) :] - expected).mean())
            if not difference <= TOLERANCES[compute_type]:
                raise NotConvertible(
                    f"its log-probabilities are {difference:.3g} away from the original's (a token, in the mean)"
                )


def _on_cpu(compute_type: ComputeType) -> str:
    return "int8_float32" if compute_type == "int8" else "float32"


def vocabulary_of(converted: Path) -> list[str]:
    """The tokens of a converted model, by row."""
    tokens: list[str] = json.loads((converted / "shared_vocabulary.json").read_text("utf-8"))
    return tokens


@contextmanager
def quiet_ctranslate2() -> Iterator[None]:
    """ctranslate2 without its remarks on types that a device has not: the plan has decided on the type."""
    import ctranslate2

    level = ctranslate2.get_log_level()
    ctranslate2.set_log_level(logging.ERROR)
    try:
        yield
    finally:
        ctranslate2.set_log_level(level)
