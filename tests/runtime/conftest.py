"""Tiny models of the five families, each a whole folder with its own trained tokenizer."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

FAMILIES = ("bart", "mbart", "pegasus", "marian", "t5")
SENTENCES = (
    "the council of the small town approved a new bridge over the river on monday",
    "heavy rain closed two roads near the harbour and the school stayed shut",
    "a local team won the final by three goals to one in front of a full ground",
    "prices of bread and milk rose by four percent in march, the office said",
    "the museum shows letters that a sailor wrote to his sister in 1912",
    "doctors warned that the new fever spreads quickly among young children",
)
VOCAB_SIZE = 160


@pytest.fixture(scope="session")
def tiny_tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """family -> a folder with the files of a tokenizer trained on SENTENCES (at most VOCAB_SIZE tokens)."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = tmp_path_factory.mktemp(f"tokenizer-{family}")
            _tokenizer(family).save_pretrained(made[family])
        return made[family]

    return folder


@pytest.fixture(scope="session")
def tiny_model_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_folder: Callable[[str], Path]
) -> Callable[..., Path]:
    """(family, encoder_layers=3, decoder_layers=3, **config) -> a model folder; equal calls share one, so do
    not write into it. T5 with `tie_word_embeddings=False` is a v1.1: its head is its own."""
    made: dict[str, Path] = {}

    def folder(family: str, encoder_layers: int = 3, decoder_layers: int = 3, **config: Any) -> Path:
        from distilc.runtime.models.build import build
        from distilc.runtime.models.load import load_tokenizer
        from distilc.runtime.models.save import save_model

        key = json.dumps([family, encoder_layers, decoder_layers, config], sort_keys=True)
        if key not in made:
            source = tiny_tokenizer_folder(family)
            arguments = {**tiny_config(family, encoder_layers, decoder_layers), **config}
            model = build(family, arguments, 1, load_tokenizer(source))
            made[key] = tmp_path_factory.mktemp(family)
            save_model(model, made[key], tokenizer=source)
        return made[key]

    return folder


@pytest.fixture(scope="session")
def tiny_architecture() -> Callable[[str, int, int], dict[str, Any]]:
    """(family, encoder_layers, decoder_layers) -> the arguments of the family's transformers config."""
    return tiny_config


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path], None]]:
    """Makes a folder a file system of two megabytes. Skipped, loudly, where nothing can be mounted."""
    mounted: list[Path] = []

    def mount(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("no file system can be mounted here: what happens on a full disk is NOT tested")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def tiny_config(family: str, encoder_layers: int, decoder_layers: int) -> dict[str, Any]:
    """Width 16, two heads, 64 positions, VOCAB_SIZE rows; weights large enough for outputs to differ."""
    if family == "t5":
        return {
            "vocab_size": VOCAB_SIZE, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_heads": 2,
            "num_layers": encoder_layers, "num_decoder_layers": decoder_layers,
            "relative_attention_num_buckets": 8, "feed_forward_proj": "relu", "dropout_rate": 0.1,
        }  # fmt: skip
    return {
        "vocab_size": VOCAB_SIZE, "d_model": 16,
        "encoder_layers": encoder_layers, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
        "decoder_layers": decoder_layers, "decoder_attention_heads": 2, "decoder_ffn_dim": 32,
        "max_position_embeddings": 64, "dropout": 0.1, "init_std": 0.2,
    }  # fmt: skip


def _tokenizer(family: str) -> Any:
    if family == "mbart":
        return _mbart_tokenizer()
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special, named = _SPECIAL_TOKENS[family]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=VOCAB_SIZE, special_tokens=special, show_progress=False)
    )
    tokens = ["<s>", "$A", "</s>"] if family == "bart" else ["$A", "</s>"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=tokens,
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in tokens if token != "$A"],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


def _mbart_tokenizer() -> Any:
    """The real MBartTokenizer class on a small unigram vocabulary; source en_XX, target de_DE."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import MBartTokenizer
    from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    size = VOCAB_SIZE - 5 - len(FAIRSEQ_LANGUAGE_CODES)
    tokenizer.train_from_iterator(SENTENCES, trainers.UnigramTrainer(vocab_size=size, show_progress=False))
    pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
    vocab = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    vocab += [(piece, score) for piece, score in pieces]
    vocab += [(code, 0.0) for code in FAIRSEQ_LANGUAGE_CODES]
    vocab += [("<mask>", 0.0)]
    return MBartTokenizer(vocab=vocab, src_lang="en_XX", tgt_lang="de_DE")


_NAMED = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
# As in the published checkpoints: BART has <s>, Marian opens with </s>, T5 and Pegasus pad with 0.
_SPECIAL_TOKENS: Mapping[str, tuple[list[str], dict[str, str]]] = {
    "bart": (["<s>", "<pad>", "</s>", "<unk>"], {**_NAMED, "bos_token": "<s>"}),
    "pegasus": (["<pad>", "</s>", "<unk>"], _NAMED),
    "marian": (["</s>", "<unk>", "<pad>"], _NAMED),
    "t5": (["<pad>", "</s>", "<unk>"], _NAMED),
}
