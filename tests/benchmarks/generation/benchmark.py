"""Examples a second, same model, sources and settings: ctranslate2 (fp32, int8), our transformers engine, and a plain
loop of `generate` over batches in the order of the data.

The model has the size of Marian's published ones with 6-2 layers and random weights that end a text nowhere, so that
all write the same number of tokens. Its generation config forces no end at the limit: a trained model seldom comes
there, and ctranslate2 has to search again where it does. Lengths of sources are those of sentences and short articles.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Row, median_seconds

NUM_SOURCES = 128
BATCH_ROWS = 32
CONFIG: dict[str, Any] = {
    "vocab_size": 16000, "d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048,
    "decoder_layers": 2, "decoder_attention_heads": 8, "decoder_ffn_dim": 2048, "max_position_embeddings": 512,
}  # fmt: skip
MAX_LENGTH = 32


def measure(num_sources: int = NUM_SOURCES, times: int = 3, num_threads: int = 2) -> Iterator[Row]:
    """Rows of the table, on `num_threads` cores."""
    from distilc.runtime.generation.choose import open_engine
    from distilc.runtime.generation.conversion import convert
    from distilc.runtime.generation.transformers_engine import TransformersEngine
    from distilc.runtime.models.build import build
    from distilc.runtime.models.load import load_tokenizer
    from distilc.runtime.models.save import save_model
    from distilc.runtime.plan.settings import GenerationSettings

    torch.set_num_threads(num_threads)
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer_folder, folder = Path(temporary, "tokenizer"), Path(temporary, "model")
        _tokenizer().save_pretrained(tokenizer_folder)
        folder.mkdir()
        save_model(build("marian", CONFIG, 1, load_tokenizer(tokenizer_folder)), folder, tokenizer=tokenizer_folder)
        _without_forced_end(folder / "generation_config.json")
        lengths = generator.integers(8, 160, num_sources)
        sources = [np.append(generator.integers(3, 16000, length), 0).astype(np.int32) for length in lengths]
        settings = GenerationSettings(
            engine="transformers", beams=4, length_penalty=None, min_length=None, max_length=MAX_LENGTH,
            no_repeat_ngram=None, early_stopping=True,
        )  # fmt: skip
        reference = TransformersEngine.open(settings, folder, precision="fp32", device="cpu", with_scores=False)
        rates = {
            "plain loop": _rate(lambda: _plain_loop(reference, sources), num_sources, times),
            "transformers": _rate(lambda: reference.generate(sources, _ignore), num_sources, times),
        }
        for compute_type in ("fp32", "int8"):
            converted = Path(temporary, compute_type)
            converted.mkdir()
            assert convert(folder, converted, compute_type) is None
            fast = open_engine(
                replace(settings, engine="ctranslate2", compute_type=compute_type), folder, converted,
                precision="fp32", device="cpu", num_threads=num_threads,
            )  # fmt: skip
            assert fast.name == "ctranslate2"
            rates[compute_type] = _rate(lambda fast=fast: fast.generate(sources, _ignore), num_sources, times)
    for name, rate in rates.items():
        print(f"# {name}: {rate:.2f} examples/s")
    plain = rates["plain loop"]
    ours = rates["transformers"] / plain
    yield Row("transformers engine / a loop over unsorted batches, 4 beams", f"{ours:.2f} x", ">= 1.3 x", ours >= 1.3)
    fast_ratio = rates["fp32"] / plain
    yield Row("ctranslate2 fp32 / `generate` of transformers", f"{fast_ratio:.2f} x", ">= 2 x", fast_ratio >= 2)
    yield Row("ctranslate2 fp32 / our transformers engine", f"{rates['fp32'] / rates['transformers']:.2f} x", "", None)
    yield Row("ctranslate2 int8 / `generate` of transformers", f"{rates['int8'] / plain:.2f} x", "", None)


def _without_forced_end(file: Path) -> None:
    config = json.loads(file.read_text("utf-8"))
    config["forced_eos_token_id"] = None
    file.write_text(json.dumps(config), "utf-8")


def _rate(action: Callable[[], Any], num_sources: int, times: int) -> float:
    action()  # warm-up
    return num_sources / median_seconds(action, times)


def _ignore(*_: Any) -> None:
    pass


def _plain_loop(reference: Any, sources: list[Any]) -> None:
    from distilc.runtime.generation.transformers_engine import generate_ids

    tokenizer = reference.tokenizer
    for start in range(0, len(sources), BATCH_ROWS):
        batch = sources[start : start + BATCH_ROWS]
        ids = generate_ids(reference.model, batch, reference.config, tokenizer.pad_token_id, "cpu")
        tokenizer.batch_decode(ids, skip_special_tokens=True)


def _tokenizer() -> Any:
    """Words `w3`, `w4`...: one for each row of the embedding."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["</s>", "<unk>", "<pad>", *(f"w{i}" for i in range(3, CONFIG["vocab_size"]))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
