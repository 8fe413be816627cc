"""Do the parts of a model folder go together: tokenizer, config.json, weights? Told from their JSON alone.

transformers loads most of what does not, and the run ends in an IndexError hours later, or trains what is no weight.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from os.path import isfile
from pathlib import Path
from typing import Any

from ..diagnostics.diagnostic import Reporter, Trail, quoted, shown_path
from ..diagnostics.record import record
from ..diagnostics.regular_file import json_mapping, open_regular
from ..extensions.families import FAMILIES
from .architecture import Architecture
from .fingerprint import weight_files

FLOATS = ("F64", "F32", "F16", "BF16")
ADAPTER = "adapter_config.json"
_NO_WEIGHTS = ("position_ids", "version")  # last part of the name of what old checkpoints keep beside their weights
_MOST_BYTES = 100_000_000  # of a header, a vocabulary: more is neither
# The ids that a model reads, and those that only decide what it writes.
_READ = ("pad_token_id", "eos_token_id", "decoder_start_token_id")
_WRITTEN = ("forced_bos_token_id", "forced_eos_token_id")


def check_parts(
    folder: Path, config: Mapping[str, Any], architecture: Architecture, path: Trail, reporter: Reporter
) -> None:
    """Reports E535 (a shard is missing), E536 (an adapter, not a model), E537 (tokens that the model has no row for),
    E538 (special tokens that are missing, or another tokenizer's), E539 (weights that are no floats)."""
    if is_adapter(folder) and not weight_files(folder):
        reporter.error("E536", path, *adapter_words(folder))
        return
    if lacking := _missing_shards(folder):
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        reporter.error(
            "E535",
            path,
            f"the index of the weights in {shown_path(folder)} names {quoted(lacking[0])}{more}, which is missing",
            "copy or download the model again",
        )
    _check_types(folder, path, reporter)
    _check_tokens(folder, config, architecture, path, reporter)


def is_adapter(folder: Path) -> bool:
    """Was this folder written by peft?"""
    return isfile(folder / ADAPTER)


def adapter_words(folder: Path) -> tuple[str, str]:
    """What to say of an adapter: message and hint."""
    base = _read(folder / ADAPTER).get("base_model_name_or_path")
    of = f" of {base}" if isinstance(base, str) and base else ""
    return (
        f"{shown_path(folder)} contains an adapter (such as LoRA){of}, not a model",
        "merge it first: PeftModel.from_pretrained(base, ADAPTER).merge_and_unload().save_pretrained(FOLDER), and save "
        "the tokenizer there too",
    )


def stored_types(folder: Path) -> dict[str, str] | None:
    """The tensors in a folder's safetensors and their types ("F32", "I64"), from the headers alone; None: not known."""
    files = [file for file in weight_files(folder) if file.suffix == ".safetensors"]
    found: dict[str, str] = {}
    try:
        for file in files:
            with open_regular(file) as stream:
                length = int.from_bytes(stream.read(8), "little")
                if length > _MOST_BYTES:
                    return None
                header = json.loads(stream.read(length))
            found.update({name: str(entry["dtype"]) for name, entry in header.items() if name != "__metadata__"})
    except (OSError, ValueError, RecursionError, AttributeError, TypeError, KeyError):
        return None
    return found if files else None


def _missing_shards(folder: Path) -> list[str]:
    index = next((file for file in weight_files(folder) if file.name.endswith(".index.json")), None)
    if index is None or isfile(folder / index.name.removesuffix(".index.json")):
        return []  # one file has all
    named = _read(index).get("weight_map")
    files = sorted({str(file) for file in named.values()}) if isinstance(named, dict) else []
    return [file for file in files if not isfile(folder / file)]


def _check_types(folder: Path, path: Trail, reporter: Reporter) -> None:
    types = stored_types(folder) or {}
    wrong = [name for name in types if types[name] not in FLOATS and name.rpartition(".")[2] not in _NO_WEIGHTS]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        reporter.error(
            "E539",
            path,
            f"in {shown_path(folder)} the weights {wrong[0]}{more} are of type {types[wrong[0]]}, which is "
            "no type of floating-point weights",
            f"use the model before quantization, in one of {', '.join(FLOATS)}",
        )


# --- tokens ----------------------------------------------------------------------------------------


@record
class Vocabulary:
    """What a folder's tokenizer can give: token -> id, as far as its files are JSON; those of targets apart where a
    Marian has two. `special`: name ("pad", "eos", "mask") -> token."""

    tokens: Mapping[str, int]
    target_tokens: Mapping[str, int]
    special: Mapping[str, str]


def _check_tokens(
    folder: Path, config: Mapping[str, Any], architecture: Architecture, path: Trail, reporter: Reporter
) -> None:
    vocabulary = read_vocabulary(folder)
    for tokens, rows in (
        (vocabulary.tokens, architecture.vocab_size),
        (vocabulary.target_tokens or vocabulary.tokens, architecture.decoder_vocab_size),
    ):
        mask = vocabulary.special.get("mask")  # no text has it; a published BART has no row for its own
        beyond = sorted((id, name) for name, id in tokens.items() if id >= rows and name != mask)
        if beyond:
            id, name = beyond[0]
            more = f" and {len(beyond) - 1} more" if len(beyond) > 1 else ""
            reporter.error(
                "E537",
                path,
                f"the tokenizer in {shown_path(folder)} has tokens that the model has no embedding for: {quoted(name)} "
                f"is {id:,}{more}, and config.json says vocab_size {rows:,}",
                "call model.resize_token_embeddings(len(tokenizer)) and save both, or use the tokenizer that the "
                "model was trained with",
            )
            return
    defects = [*_impossible_ids(folder, config, architecture), *_others_ids(config, vocabulary)]
    if weight_files(folder):  # a config alone is a shape
        defects += _missing_ids(config, architecture)
    if defects:
        message, hint = defects[0]
        reporter.error("E538", path, f"{shown_path(folder)}: {message}", hint)


def _missing_ids(config: Mapping[str, Any], architecture: Architecture) -> Iterator[tuple[str, str]]:
    """What config.json must say: the family's own default is that of the published checkpoints, where it has one."""
    family = FAMILIES[architecture.family]
    if "pad_token_id" in config and config["pad_token_id"] is None:
        hint = "set pad_token_id to the id of the tokenizer's padding token"
        yield "config.json has no padding token: pad_token_id is null", hint
    if architecture.encoder_only or family.opens_with == "language":
        return  # mBART opens with the language of the text
    absent = config.get("decoder_start_token_id") is None
    if absent and (not family.opening_is_known or "decoder_start_token_id" in config):
        first = config.get("eos_token_id", 2) if family.opens_with == "eos" else config.get("pad_token_id", 0)
        yield (
            "config.json does not say which token starts the decoder's input",
            f'add `"decoder_start_token_id": {first}` to config.json, or what the model was trained with',
        )


def _impossible_ids(folder: Path, config: Mapping[str, Any], architecture: Architecture) -> Iterator[tuple[str, str]]:
    rows = architecture.decoder_vocab_size or architecture.vocab_size
    generation = _read(folder / "generation_config.json")
    for file, tree in (("config.json", config), ("generation_config.json", generation)):
        for name in (*_READ, *_WRITTEN):
            given = tree.get(name)
            for id in given if isinstance(given, list) else [given]:
                if id is not None and (isinstance(id, bool) or not isinstance(id, int) or not 0 <= id < rows):
                    hint = f"it must be from 0 to {rows - 1:,}: use the file that came with the model"
                    yield f"{name} is {quoted(id)} in {file}, and the vocabulary has {rows:,} tokens", hint


def _others_ids(config: Mapping[str, Any], vocabulary: Vocabulary) -> Iterator[tuple[str, str]]:
    for name in ("pad", "eos"):
        said, token = config.get(f"{name}_token_id"), vocabulary.special.get(name)
        real = vocabulary.tokens.get(token) if token is not None else None
        if isinstance(said, int) and real is not None and said != real:
            yield (
                f"{name}_token_id is {said} in config.json, and {quoted(token)} is {real} in the tokenizer: it "
                "belongs to another model",
                "use the tokenizer that the model was trained with",
            )


def read_vocabulary(folder: Path) -> Vocabulary:
    """What the JSON files of a tokenizer say; empty where there are none (sentencepiece models are not read)."""
    stamps = []
    for name in ("tokenizer.json", "vocab.json", "target_vocab.json", "added_tokens.json", "tokenizer_config.json"):
        file = folder / name
        stamps.append((name, file.stat().st_mtime_ns) if isfile(file) else (name, None))
    return _vocabulary(folder, tuple(stamps))


@lru_cache(maxsize=8)  # of the runs of a matrix most have one teacher
def _vocabulary(folder: Path, stamps: tuple[tuple[str, int | None], ...]) -> Vocabulary:
    whole, settings = _read(folder / "tokenizer.json"), _read(folder / "tokenizer_config.json")
    tokens = _whole_tokens(whole) if whole else _ids(_read(folder / "vocab.json"))
    target_tokens = _ids(_read(folder / "target_vocab.json"))
    added = _ids(_read(folder / "added_tokens.json"))
    for id, entry in _mapping(settings.get("added_tokens_decoder")).items():
        if id.isdecimal() and isinstance(entry, dict) and isinstance(entry.get("content"), str):
            added[entry["content"]] = int(id)
    special = {}
    for name in ("pad", "eos", "mask"):
        token = settings.get(f"{name}_token")
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            special[name] = token
    # What the families call theirs, where nobody says it.
    special = {"pad": "<pad>", "eos": "</s>", "mask": "<mask>", **special} if "[CLS]" not in tokens else special
    return Vocabulary({**tokens, **added}, {**target_tokens, **added} if target_tokens else {}, special)


def _whole_tokens(tree: Mapping[str, Any]) -> dict[str, int]:
    """Those of a tokenizer.json: `vocab` is a mapping, or of a unigram model a list of [token, score]."""
    vocabulary = _mapping(tree.get("model")).get("vocab")
    if isinstance(vocabulary, list):
        pairs = enumerate(vocabulary)
        found = {str(entry[0]): id for id, entry in pairs if isinstance(entry, list) and entry}
    else:
        found = _ids(_mapping(vocabulary))
    added = tree.get("added_tokens")
    for entry in added if isinstance(added, list) else ():
        if isinstance(entry, dict):
            found |= _ids({str(entry.get("content")): entry.get("id")})
    return found


def _ids(tree: Mapping[str, Any]) -> dict[str, int]:
    return {token: id for token, id in tree.items() if isinstance(id, int) and not isinstance(id, bool)}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _read(file: Path) -> dict[str, Any]:
    return json_mapping(file, _MOST_BYTES)
