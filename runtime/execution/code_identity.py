"""Which distilc is at work: its version, and a hash of the code that computes results."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from ..failure import Failure


@dataclass(frozen=True)
class CodeIdentity:
    """`code`: sha256 over names and contents of the files of the run half, as they lie on the disk now."""

    version: str
    code: str


def code_identity() -> CodeIdentity:
    """That of the installed distilc. A process that began earlier may have loaded parts of another."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*.*") if file.suffix in (".py", ".toml")):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return CodeIdentity(distilc_version(), digest.hexdigest())


def distilc_version() -> str:
    try:
        return importlib.metadata.version("distilc")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def require_same_code(code: str) -> None:
    """`code`: of the driver when it began. A worker asks when it begins, and before it loads the code of a stage.

    Raises `Failure` R410: the code is another now, here or on this node."""
    now = code_identity()
    if now.code != code:
        raise Failure(
            "R410",
            f"distilc was changed during the run: its code is {now.code[:12]} (version {now.version}) here, and was "
            f"{code[:12]} when the run began on the driver's machine",
            "run the same command again: it goes on with the code that is there now. All nodes need the same code",
        )
