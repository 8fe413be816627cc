"""The files of a `signals` artifact: one side of a teacher (encoder or decoder), for every row of a training set.

    last.npy        the stack's final states, after its last norm
    layer-K.npy     outputs of layer K (0-based)
    offsets.npy     where each row begins, N + 1 entries
    signals.json    what they are of (`Facts`)

or, of the decoder alone, next tokens that stand for its distribution (`candidates`):

    candidates.npy           their ids, (tokens, K) int32
    log_probabilities.npy    (tokens, K) float32; of the most probable ones (tokens, K + 1)

A file of states is one array (tokens, width): the rows of the data end to end, without padding, in their order.
The encoder's rows are the sources, the decoder's are the targets: state t of a row is the one that predicts
label t. Numbers have the precision of the run; bf16, which numpy has no name for, is stored as its 16 bits.

Where a family has no norm after its last layer, that layer's output is the final state and is kept once.
Predicted by the compiler to the byte (`compiler.signals`).
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..failure import Failure
from ..plan.binding import bind
from ..plan.settings import KeptCandidates
from ..protocol import Need

FACTS = "signals.json"
OFFSETS = "offsets.npy"
LAST = "last"
# What these files are enough for. A term that needs anything else has its teacher run at every step.
KEPT: frozenset[Need] = frozenset({"logits", "hidden", "last-state", "teacher", "phi"})
STORED: dict[str, np.dtype[Any]] = {"fp32": np.dtype("<f4"), "bf16": np.dtype("<u2"), "fp16": np.dtype("<f2")}
_HEADER_BYTES = 128  # of a .npy file


@dataclass(frozen=True, kw_only=True)
class Facts:
    """`files`: state (`last` or `layer-K`) -> the name of its file. `encoder`: a hash of the first stack, that the
    states came through (`first_stack_digest`). `candidates`: what they are, None where states are kept."""

    side: Literal["encoder", "decoder"]
    precision: Literal["fp32", "bf16", "fp16"]
    width: int
    files: dict[str, str]
    encoder: str
    candidates: KeptCandidates | None = None


def layer_name(layer: int) -> str:
    """The name of the outputs of a layer (0-based)."""
    return f"layer-{layer}"


def file_names(last: bool, layers: Sequence[int], *, last_layer: int, final_norm: bool) -> dict[str, str]:
    """State -> file, for a stack whose layers are 0 to `last_layer`."""
    names = {layer_name(layer): f"{layer_name(layer)}.npy" for layer in sorted(set(layers))}
    if last:
        names[LAST] = f"{LAST}.npy"
        if layer_name(last_layer) in names and not final_norm:
            names[layer_name(last_layer)] = names[LAST]
    return names


def create(path: Path, tokens: int, width: int, dtype: np.dtype[Any]) -> None:
    """An array of zeros. Its room on the disk is taken at once, where the file system can: a process that writes into
    a mapped file on a full disk is ended by the system, without a word."""
    with path.open("wb") as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": (tokens, width)}
        np.lib.format.write_array_header_1_0(file, header)
        if file.tell() != _HEADER_BYTES:
            raise AssertionError("the .npy header is not 128 bytes long")
        size = _HEADER_BYTES + tokens * width * dtype.itemsize
        file.truncate(size)
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise OSError(error.errno, error.strerror, str(path)) from error


def open_array(path: Path, mode: Literal["r", "r+"]) -> NDArray[Any]:
    """The mapped array. Raises `Failure` R331: it is not there or damaged."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode=mode)
    except (OSError, ValueError) as error:
        raise Failure("R331", f"cannot read the signals {path}: {error}", "remove the folder and run again") from error
    return array


def to_stored(states: torch.Tensor) -> NDArray[Any]:
    """Numbers of a tensor as they are stored: bf16 by its bits."""
    states = states.detach().cpu().contiguous()
    return states.view(torch.uint16).numpy() if states.dtype == torch.bfloat16 else states.numpy()


def from_stored(rows: NDArray[Any]) -> torch.Tensor:
    """The tensor of stored numbers; shares their memory."""
    tensor = torch.from_numpy(rows)
    return tensor.view(torch.bfloat16) if rows.dtype == STORED["bf16"] else tensor


def write_facts(folder: Path, facts: Facts) -> None:
    (folder / FACTS).write_text(json.dumps(asdict(facts), indent=1, sort_keys=True, allow_nan=False) + "\n", "utf-8")


def read_facts(folder: Path) -> Facts:
    """Raises `Failure` R331: they are not there or damaged."""
    try:
        tree = json.loads((folder / FACTS).read_text("utf-8"))
        facts: Facts = bind(Facts, tree, FACTS)
    except (OSError, ValueError, Failure) as error:
        raise Failure(
            "R331", f"cannot read the signals in {folder}: {error}", "remove the folder and run again"
        ) from error
    return facts
