"""A model -> a folder that plain `from_pretrained` and AutoTokenizer load.

The tokenizer's files are copied as they are: saving a loaded tokenizer writes it anew, and not every
tokenizer comes back the same.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..failure import Failure
from .load import load_tokenizer, quiet

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "target_vocab.json", "vocab.txt", "merges.txt", "*.spm", "*.model", "chat_template*",
)


def save_model(model: Any, folder: Path, *, tokenizer: Path) -> None:
    """Write weights (safetensors), config, generation config, and the tokenizer files of another folder.

    Raises `Failure` R226: the copied tokenizer does not load.
    """
    from transformers import GenerationConfig

    generation = getattr(model, "generation_config", None)
    # transformers refuses to save a changed generation config that has beam settings without beams; they
    # are the checkpoint's own and matter as soon as beams are asked for. It does not check this one.
    if generation is not None:
        model.generation_config = GenerationConfig()
    try:
        with quiet():
            model.save_pretrained(folder)
    finally:
        model.generation_config = generation
    if generation is not None:  # of a model that writes
        generation.to_json_file(folder / "generation_config.json", use_diff=True)
    copy_tokenizer(tokenizer, folder)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy a tokenizer's files beside a model. Raises `Failure` R226: there are none, or they do not load."""
    files = [file for pattern in TOKENIZER_FILES for file in sorted(source.glob(pattern)) if file.is_file()]
    if not files:
        raise Failure("R226", f"there is no tokenizer in {source}",
                      "put the files that tokenizer.save_pretrained writes beside the model",
                      spec_path="teacher")
    for file in files:
        shutil.copyfile(file, folder / file.name)
    load_tokenizer(folder)
