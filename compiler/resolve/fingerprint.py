"""sha256 of files and of model folders, remembered by inode, size and time so that a second compile is quick."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from os.path import isfile
from pathlib import Path
from typing import Any

from ..diagnostics.regular_file import open_regular, real_path

UNRESOLVED = "unresolved"  # stands where a fingerprint cannot be known, offline or before the data is there

_CHUNK_BYTES = 1 << 22
_RACE_NS = 2_000_000_000  # a file younger than this may change again within the clock's grain: not remembered
_TOKENIZER_SUFFIXES = (".model", ".spm")
_TOKENIZER_FILES = (
    "added_tokens.json", "merges.txt", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    "target_vocab.json", "vocab.json", "vocab.txt",
)  # fmt: skip


class Fingerprints:
    """Fingerprints of files. `memory`: the file that remembers them (None: nothing is written)."""

    def __init__(self, memory: Path | None = None) -> None:
        self._memory = memory
        self._known: dict[str, list[Any]] = {}
        self._changed = False
        if memory is not None:
            with suppress(OSError, ValueError):
                known = json.loads(memory.read_text("utf-8"))
                if isinstance(known, dict):
                    self._known = known

    def file(self, path: Path) -> str:
        """sha256 of a file's bytes. Raises `OSError` when it cannot be read, or is no regular file."""
        name = str(real_path(path))
        found = os.stat(name)
        stamp = [found.st_ino, found.st_size, found.st_mtime_ns]
        entry = self._known.get(name)
        if isinstance(entry, list) and len(entry) == 4 and entry[:3] == stamp:
            return str(entry[3])
        import hashlib

        sha = hashlib.sha256()
        with open_regular(Path(name)) as file:
            while chunk := file.read(_CHUNK_BYTES):
                sha.update(chunk)
        if time.time_ns() - found.st_mtime_ns > _RACE_NS:
            self._known[name] = [*stamp, sha.hexdigest()]
            self._changed = True
        return sha.hexdigest()

    def model(self, folder: Path) -> str:
        """sha256 over names and contents of the files that make a model; other files do not count.

        Raises `OSError` when one cannot be read.
        """
        import hashlib

        lines = [f"{file.name}\0{self.file(file)}\n" for file in model_files(folder)]
        return hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()

    def save(self) -> None:
        """Write down what is new. A workspace that cannot be written is the runtime's to complain about."""
        if self._memory is None or not self._changed:
            return
        with suppress(OSError):
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._memory.with_name(f"{self._memory.name}.{os.getpid()}")
            temporary.write_text(json.dumps(self._known, indent=1, sort_keys=True, allow_nan=False), "utf-8")
            temporary.replace(self._memory)


def fingerprint_of(file: Path, fingerprints: Fingerprints | None) -> str:
    """The fingerprint of a file; of a quick look (None) `UNRESOLVED`, when the file can be opened. Raises `OSError`."""
    if fingerprints is not None:
        return fingerprints.file(file)
    open_regular(file).close()
    return UNRESOLVED


def model_files(folder: Path) -> list[Path]:
    """Config, generation config, tokenizer and weights of a model folder, by name. Of two forms of the
    weights the safetensors count, as they do when the model is loaded."""
    files = [file for file in folder.iterdir() if isfile(file)]
    weights = weight_files(folder)
    others = [
        file
        for file in files
        if file.name in ("config.json", "generation_config.json", *_TOKENIZER_FILES)
        or file.suffix in _TOKENIZER_SUFFIXES
    ]
    return sorted([*others, *weights], key=lambda file: file.name)


def weight_files(folder: Path) -> list[Path]:
    """The weights of a model folder with their index, safetensors if there are any; empty: there are none."""
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        found = [*folder.glob(f"{stem}*.{suffix}"), *folder.glob(f"{stem}*.{suffix}.index.json")]
        if found:
            return sorted(found)
    return []
