"""Models and data sets of the hub: which commit a name and a revision mean, and where its files are.

The local cache is asked first, by its layout alone (`models--org--name/refs/<revision>` and
`snapshots/<commit>`), so that nothing heavy is imported and nothing goes over the network when it need not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from os.path import expanduser, isdir
from pathlib import Path
from typing import Any, Literal

from ..diagnostics.regular_file import open_regular
from ..extensions.families import FAMILIES

TIMEOUT_SECONDS = 5.0
Kind = Literal["models", "datasets"]

_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubError(Exception):
    """The hub did not answer (`answered` is False), or does not have it; the message is for the user."""

    def __init__(self, message: str, answered: bool = True) -> None:
        super().__init__(message)
        self.answered = answered


def cache_folder() -> Path:
    """Where the hub's own library keeps what it fetched."""
    if folder := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(expanduser(folder))
    if home := os.environ.get("HF_HOME"):
        return Path(expanduser(home)) / "hub"
    return Path(expanduser(os.environ.get("XDG_CACHE_HOME", "~/.cache"))) / "huggingface" / "hub"


def cached_commit(kind: Kind, repository: str, revision: str) -> str | None:
    """The commit that a revision meant when it was last fetched; a full commit is its own answer."""
    if _COMMIT.fullmatch(revision):
        return revision
    if ".." in revision.split("/"):
        return None  # no name that git takes, and a way out of the cache
    try:
        with open_regular(_repository_folder(kind, repository) / "refs" / revision) as reference:
            commit = reference.read().decode("ascii").strip()
    except (OSError, ValueError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def cached_snapshot(kind: Kind, repository: str, commit: str) -> Path | None:
    """The folder of a fetched commit, whole or in part."""
    folder = _repository_folder(kind, repository) / "snapshots" / commit
    return folder if isdir(folder) else None


def fetch_commit(kind: Kind, repository: str, revision: str) -> str:
    """Ask the hub for the commit of a revision. Raises `HubError`."""
    from huggingface_hub import HfApi

    api = HfApi()
    info = api.model_info if kind == "models" else api.dataset_info
    found = _asked(lambda: info(repository, revision=revision, timeout=TIMEOUT_SECONDS))
    return str(found.sha)


def fetch_config(repository: str, commit: str) -> Path:
    """Fetch a model's config.json into the cache and, where it has them, the small files that say how long its texts
    are and which languages it knows; returns the snapshot's folder. Raises `HubError`."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    def fetch(name: str) -> str:
        found: str = hf_hub_download(repository, name, revision=commit, etag_timeout=TIMEOUT_SECONDS)
        return found

    def fetch_if_there(name: str) -> None:
        with suppress(EntryNotFoundError):
            fetch(name)

    file = Path(_asked(lambda: fetch("config.json")))
    _asked(lambda: fetch_if_there("generation_config.json"))
    _asked(lambda: fetch_if_there("tokenizer_config.json"))
    config = file.read_bytes()
    by_tokens = [name for name, family in FAMILIES.items() if family.languages == "tokens"]
    if any(f'"{name}"'.encode() in config for name in by_tokens):  # they are in its vocabulary, of some hundred kB
        _asked(lambda: fetch_if_there("vocab.json"))
    return file.parent


def is_offline(offline: bool) -> bool:
    """Is the network off limits, by the site or by the hub's own variable?"""
    return offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _repository_folder(kind: Kind, repository: str) -> Path:
    return cache_folder() / "--".join([kind, *repository.split("/")])


def _asked(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except Exception as error:  # the library raises its own, requests', httpx' and the system's
        lines = str(error).strip().splitlines() or [type(error).__name__]
        status = getattr(getattr(error, "response", None), "status_code", None)
        raise HubError(lines[0], answered=status is not None and status < 500) from error
