"""The kinds of files that rows and texts are read from, and what is said of others."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import isdir
from pathlib import PurePath

from ..diagnostics.diagnostic import listed

FILE_KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
BASELINE_KINDS = (".txt", *FILE_KINDS)
UNPACK = {".gz": "gunzip -k", ".bz2": "bunzip2 -k", ".xz": "unxz -k", ".zst": "unzstd", ".zip": "unzip"}


def is_refused(name: str, kinds: Sequence[str]) -> bool:
    """Is it, by its name alone, a file of none of the `kinds`? Then it need not be said whether there is one."""
    return PurePath(name).suffix.lower() not in kinds and not isdir(name)


def not_read(name: str, kinds: Sequence[str]) -> tuple[str, str]:
    """Message and hint for a file of none of the `kinds`: what is packed has to be unpacked."""
    suffix = PurePath(name).suffix.lower()
    message = f"files of the kind {suffix} are not supported" if suffix else "files without a suffix are not supported"
    if suffix in UNPACK:
        return message, f"unpack it: {UNPACK[suffix]} {PurePath(name).name}, and name {PurePath(unpacked(name)).name}"
    return message, f"the kinds are {listed(kinds, 'and')}"


def unpacked(name: str) -> str:
    """What a packed file holds, by its name: `train.csv.gz` holds train.csv. Of any other its own name."""
    return name[: -len(suffix)] if (suffix := PurePath(name).suffix).lower() in UNPACK else name
