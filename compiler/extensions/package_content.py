"""What an installed package is: one hash over its files."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import Distribution

NOT_CONTENT = (".pyc", ".pyo", ".pth")


def content_hash(distribution: Distribution, module: str, origin: Path) -> str:
    """sha256 over names and contents of the files of a distribution: those that its RECORD lists, or, where
    `origin`, the file of `module`, is not among them (an editable install), those of the module's top-level
    package. Compiled files and metadata do not count.

    The runtime computes the same number (`runtime/files/package_content.py`).
    """
    files = _recorded(distribution)
    if origin not in files.values():
        files = _sources(origin, module)
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        content = file.read_bytes() if file.is_file() else b""
        digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def _recorded(distribution: Distribution) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        parts = Path(row[0]).parts if row else ()
        if not parts or parts[0] in ("..", "/") or parts[0].endswith((".dist-info", ".data")):
            continue
        if "__pycache__" not in parts and not row[0].endswith(NOT_CONTENT) and not parts[0].startswith("__editable__"):
            files[Path(row[0]).as_posix()] = Path(str(distribution.locate_file(row[0]))).resolve()
    return files


def _sources(origin: Path, module: str) -> dict[str, Path]:
    depth = len(module.split(".")) - (0 if origin.stem == "__init__" else 1)
    if depth == 0:
        beside = (origin, origin.with_name(f"{module}.schema.json"))
        return {file.name: file for file in beside if file.is_file()}
    top = origin.parents[depth - 1]
    found = (file for file in top.rglob("*") if file.is_file() and not file.name.endswith(NOT_CONTENT))
    names = {file.relative_to(top.parent): file for file in found}
    return {
        name.as_posix(): file
        for name, file in names.items()
        if not any(part == "__pycache__" or part.startswith(".") for part in name.parts)
    }
