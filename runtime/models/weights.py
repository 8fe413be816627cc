"""The weight files of a model folder, looked at without loading them.

In: a folder. Out: its weight files, known to be whole, and the names and shapes they hold. A file that was
cut short (an interrupted download or copy) is found here, before anything reads it.
"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

from ..failure import Failure
from ..files.regular_file import irregular

SAFETENSORS, SAFETENSORS_INDEX = "model.safetensors", "model.safetensors.index.json"
_MORE_THAN_TENSORS = re.compile(r"GLOBAL|allowed global|call reduce|Can only build")  # torch, of what it does not do
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, each checked to be whole: safetensors if there are any, else `.bin`.

    Raises `Failure` R222: a file is missing or truncated.
    """
    for single, index in ((SAFETENSORS, SAFETENSORS_INDEX), (PICKLE, PICKLE_INDEX)):
        if (folder / single).is_file():
            files = [folder / single]
        elif (folder / index).is_file():
            files = [folder / name for name in sorted(set(_read_json(folder / index)["weight_map"].values()))]
        else:
            continue
        for file in files:
            _check_whole(file)
        return files
    raise lacking(folder, f"there is neither {SAFETENSORS} nor {PICKLE}")


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Parameter name -> shape, from the headers (safetensors) or without reading the data (`.bin`)."""
    return {name: shape for name, (shape, _) in _stored(folder).items()}


def stored_integers(folder: Path) -> dict[str, str]:
    """Parameter name -> type, of those that are stored as something else than floats of 16 bits or more."""
    return {name: kind for name, (_, kind) in _stored(folder).items() if kind not in _FLOATS}


_FLOATS = ("F64", "F32", "F16", "BF16", "float64", "float32", "float16", "bfloat16")  # safetensors', torch's


def _stored(folder: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for file in weight_files(folder):
        if file.suffix == ".safetensors":
            found.update({name: (tuple(entry["shape"]), entry["dtype"]) for name, entry in _header(file)[0].items()})
        else:
            for name, tensor in _unpickled(file).items():
                found[name] = (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
    return {_renamed(name): entry for name, entry in found.items()}


def _renamed(name: str) -> str:
    """What transformers reads a tensor as: the first checkpoints of BERT call parts of a norm as TensorFlow does."""
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def stored_tensors(folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """The named tensors, as far as they are stored."""
    found: dict[str, Any] = {}
    for file in weight_files(folder):
        if file.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(file, framework="pt") as tensors:
                found.update({name: tensors.get_tensor(name) for name in set(names) & set(tensors.keys())})
        else:
            found.update({name: tensor for name, tensor in _unpickled(file).items() if name in names})
    return found


def truncated(folder: Path, reason: str) -> Failure:
    """The diagnosis of an incomplete model folder."""
    return Failure("R222", f"truncated model folder {folder}: {reason}",
                   "copy or download the model again", spec_path="teacher")


def holds_code(file: Path, error: BaseException) -> Failure | None:
    """The diagnosis of a pickle (or a folder with one) that would do more than make tensors, from the error with which
    torch refused it; None: it was something else."""
    if _MORE_THAN_TENSORS.search(str(error)) is None:
        return None
    asked = re.search(r"(?:GLOBAL|function) ([\w.]+\.\w+)", str(error))
    named = f" ({asked[1]})" if asked else ""
    return Failure("R223", f"{file} is a pickle that holds more than tensors{named}: it is not opened, because "
                   "that can run any program", "convert it to safetensors where it comes from "
                   "(safetensors.torch.save_file(state_dict, 'model.safetensors')), or take another checkpoint",
                   spec_path="teacher")  # fmt: skip


def lacking(folder: Path, reason: str) -> Failure:
    """The diagnosis of a folder without a file that every model has; peft's hold adapters instead of models."""
    if not (folder / "adapter_config.json").is_file():
        return truncated(folder, reason)
    return Failure("R223", f"{folder} holds an adapter (LoRA and its kin), not a model",
                   "merge it first: PeftModel.from_pretrained(base, ADAPTER).merge_and_unload().save_pretrained("
                   "FOLDER), and save the tokenizer there too", spec_path="teacher")


def require_files(folder: Path) -> None:
    """Raises `Failure` R223: something in a model folder is no file, and whoever reads the folder would wait for it;
    R222: it is no folder."""
    try:
        strange = irregular(folder)
    except OSError as error:
        raise truncated(folder, error.strerror or "it cannot be read") from error
    if strange is not None:
        raise Failure("R223", f"cannot load the model in {folder}: {strange.name} is a pipe, a device or a socket",
                      "take it out of the folder", spec_path="teacher")


def _check_whole(file: Path) -> None:
    if not file.is_file():
        raise truncated(file.parent, f"{file.name} is missing")
    if file.suffix == ".safetensors":
        header, start = _header(file)
        end = start + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if file.stat().st_size != end:
            raise truncated(file.parent, f"{file.name} has {file.stat().st_size:,} of {end:,} bytes")
    elif file.stat().st_size == 0 or (_begins_as_zip(file) and not zipfile.is_zipfile(file)):
        raise truncated(file.parent, f"{file.name} ends too early")


def _begins_as_zip(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(2) == b"PK"


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """A safetensors header and where the data begin: 8 bytes of length, the JSON header, the data."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or 8 + length > size:
            raise truncated(file.parent, f"{file.name} ends within its header")
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
        except (ValueError, AttributeError) as error:
            raise truncated(file.parent, f"{file.name} has no readable header") from error
    return header, 8 + length


def _unpickled(file: Path) -> dict[str, Any]:
    """The tensors of a `.bin`: nothing but tensors is unpickled, data stay on disk if the format allows."""
    import torch

    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:
        if (unsafe := holds_code(file, error)) is not None:
            raise unsafe from error
        raise truncated(file.parent, f"{file.name} cannot be read ({error.__class__.__name__})") from error
    return {name: tensor for name, tensor in loaded.items() if isinstance(tensor, torch.Tensor)}


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise truncated(file.parent, f"{file.name} cannot be read") from error
