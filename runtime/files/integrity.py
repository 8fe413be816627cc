"""Is a file still what it was when it was written? sha256 of files, cached for large ones.

A record keeps, by name, the inode, size and time of a large file with its hash: it is hashed again only when one of
them is another. Small files are hashed every time. Records lie in the workspace, also those about stores that are
only read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..failure import Failure

SMALL_BYTES = 1 << 22
SLOW_BYTES = 1 << 30

TOKENIZER_FILES = (
    "added_tokens.json", "merges.txt", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    "vocab.json", "vocab.txt",
)  # fmt: skip
TOKENIZER_SUFFIXES = (".model", ".spm")


class Hashes:
    """sha256 of the files of one subject. `record`: where those of large files are kept; None: in this object.
    `wait`: is called with the name of a file that takes long."""

    def __init__(self, record: Path | None = None, wait: Callable[[str], None] | None = None) -> None:
        self._record, self._wait = record, wait
        self._known: dict[str, list[Any]] = {}
        if record is not None:
            with suppress(OSError, ValueError):
                known = json.loads(record.read_text("utf-8"))
                self._known = known if isinstance(known, dict) else {}

    def sha256(self, name: str, path: Path) -> str:
        """Of a file, called `name` in the record. Raises `OSError`: it cannot be read."""
        found = path.stat()
        if found.st_size <= SMALL_BYTES:
            return sha256(path)
        stamp = [found.st_ino, found.st_size, found.st_mtime_ns]
        entry = self._known.get(name)
        if not isinstance(entry, list) or entry[:-1] != stamp:
            if self._wait is not None and found.st_size > SLOW_BYTES:
                self._wait(name)
            entry = self._known[name] = [*stamp, sha256(path)]
            self._save()
        return str(entry[-1])

    def _save(self) -> None:
        if self._record is None:
            return
        with suppress(OSError):  # then it is hashed again the next time
            self._record.parent.mkdir(parents=True, exist_ok=True)
            write_durably(self._record, json.dumps(self._known, indent=1, sort_keys=True, allow_nan=False))


def changed_file(
    folder: Path, files: Mapping[str, Mapping[str, Any]], hashes: Hashes, *, large_files: bool = True
) -> tuple[str, str] | None:
    """The first file of a folder that is not as its entry {sha256, bytes} says: its name, and how in words.

    `large_files` False: of those only the size is looked at."""
    for name, entry in files.items():
        file = folder / name
        if not file.is_file():
            return name, "is missing"
        if (size := file.stat().st_size) != entry["bytes"]:
            how = "was cut short" if size < entry["bytes"] else "was changed"
            return name, f"{how}: it has {size:,} bytes, and had {entry['bytes']:,}"
        if (large_files or entry["bytes"] <= SMALL_BYTES) and hashes.sha256(name, file) != entry["sha256"]:
            return name, "is not what was written"
    return None


def added_file(folder: Path, written: Iterable[str]) -> str | None:
    """The first file of a folder that is none of these names; None: there is none. Hidden files do not count: file
    systems and desktops make them."""
    known = set(written)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.as_posix() not in known and not any(part.startswith(".") for part in name.parts):
            return name.as_posix()
    return None


def require_model(reference: Path, hashes: Hashes) -> None:
    """An artifact that is a reference to a model folder: is that folder still what the plan was compiled for, and
    what was looked at?

    Raises `Failure` R224: a file of it was changed in place."""
    record = json.loads(reference.read_text("utf-8"))
    folder = Path(record["path"])
    try:
        of_files = {file.name: hashes.sha256(str(file), file) for file in model_files(folder)}
    except OSError as error:
        raise Failure("R224", f"the model folder {folder} cannot be read: {error.strerror}",
                      "put it back, or name the model's new place in the spec", spec_path="teacher") from error
    seen: Mapping[str, str] = record.get("sha256", {})
    changed = next((name for name, sha in seen.items() if of_files.get(name) != sha), None)
    if changed is not None or record["fingerprint"] not in (None, fingerprint(of_files)):
        what = f"{folder / changed}" if changed is not None else f"the model in {folder}"
        raise Failure("R224", f"{what} was changed since the plan was compiled", "compile the spec again",
                      spec_path="teacher")  # fmt: skip


def fingerprint(of_files: Mapping[str, str]) -> str:
    """sha256 over names and hashes of the files of a model, as the compiler computes it."""
    lines = [f"{name}\0{of_files[name]}\n" for name in sorted(of_files)]
    return hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()


def model_files(folder: Path) -> list[Path]:
    """Config, generation config, tokenizer and weights of a model folder: the files that its fingerprint is of."""
    files = [file for file in folder.iterdir() if file.is_file()]
    others = [
        file
        for file in files
        if file.name in ("config.json", "generation_config.json", *TOKENIZER_FILES)
        or file.suffix in TOKENIZER_SUFFIXES
    ]
    return sorted([*others, *_weight_files(folder)], key=lambda file: file.name)


def _weight_files(folder: Path) -> Sequence[Path]:
    """With their index; safetensors if there are any."""
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        found = [*folder.glob(f"{stem}*.{suffix}"), *folder.glob(f"{stem}*.{suffix}.index.json")]
        if found:
            return found
    return []


def write_durably(path: Path, text: str) -> None:
    """Replace a file by rename; after a power cut it is the old one or the new one, never half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def sync(path: Path) -> None:
    """Bring a file or the names in a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """A folder with all that is in it."""
    for path in folder.rglob("*"):
        if path.is_file() or path.is_dir():
            sync(path)
    sync(folder)


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
