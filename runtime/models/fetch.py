"""A model of the hub -> its snapshot folder in the local hub cache.

What the cache has is used as it is, without a word to the network. Weights come as safetensors; `.bin` is
fetched only where a repository has nothing else.
"""

from __future__ import annotations

from pathlib import Path

from ..failure import Failure
from .save import TOKENIZER_FILES
from .weights import weight_files

_DESCRIPTION = ["config.json", "generation_config.json", *TOKENIZER_FILES]
_SAFETENSORS = ["model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"]
_PICKLE = ["pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json"]


def fetch(repository: str, revision: str, *, offline: bool) -> Path:
    """The snapshot of a repository at a commit.

    Raises `Failure` R243: it is not in the cache and cannot be fetched (offline, no such repository or
    revision, no network), or the compiler knew its shape and not its commit.
    """
    if revision == "unresolved":
        raise Failure("R243", f"the plan was compiled where nobody could say which {repository} is meant",
                      "compile the spec again where there is a network, or the model is there (--models DIR)",
                      spec_path="teacher")
    cached = _cached(repository, revision)
    if cached is not None:
        return cached
    name = f"{repository} at {revision}"
    if offline:
        raise Failure("R243", f"{name} is not in the local hub cache, and this run is offline",
                      f"fetch it where there is a network: hf download {repository} --revision {revision}",
                      spec_path="teacher")
    from huggingface_hub import snapshot_download

    wanted = [*_DESCRIPTION, *_SAFETENSORS]
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=wanted))
        if not any(folder.glob("*.safetensors")):
            snapshot_download(repository, revision=revision, allow_patterns=_PICKLE)
    except Exception as error:
        reason = str(error).strip().splitlines() or [error.__class__.__name__]
        raise Failure("R243", f"cannot fetch {name}: {reason[0]}",
                      "check the name, the revision and the network; a gated model needs HF_TOKEN",
                      spec_path="teacher") from error
    return folder


def _cached(repository: str, revision: str) -> Path | None:
    """The cached snapshot, if it is whole."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
        weight_files(folder)
    except Exception:  # not there, or an interrupted download: fetch it
        return None
    return folder if (folder / "config.json").is_file() else None
