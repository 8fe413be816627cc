"""Memory, disk and arithmetic of a training, from shapes alone: what `zero: auto` and `explain` go by.

Model states are exact up to the allocator; activations are an estimate from the sizes that backward keeps in
each block. Everything is per device, in bytes unless a name says gigabytes (GiB).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from .architecture import Architecture

GIB = 2**30
CPU_MICRO_BATCH_TOKENS = 4096
MICRO_BATCH_TOKENS = (4096, 65536)  # the smallest and the largest that is derived for an accelerator

_USABLE = 0.9  # of a device's memory; the rest goes to fragmentation and the framework
_WORKSPACE_BYTES = 1 << 30  # kernels, communication buckets
_SAVED_WIDTHS = {"encoder": 9, "decoder": 15}  # multiples of d_model that one layer keeps for backward
_LOGIT_COPIES = 3  # logits, log-probabilities and their gradient
_LOGIT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One training on one device. `memory_gb` None: unknown, nothing is ever too large."""

    architecture: Architecture
    freeze: tuple[str, ...]
    precision: Literal["fp32", "bf16", "fp16"]
    optimizer: Literal["adamw", "adafactor"]
    offload: Literal["none", "optimizer", "parameters"]
    world: int
    per_node: int
    device: Literal["cpu", "cuda"]
    memory_gb: float | None


@dataclass(frozen=True)
class MemoryTable:
    """Bytes on one device."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    workspace: int

    @property
    def states(self) -> int:
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        return self.states + self.activations + self.logits + self.workspace


def memory_table(load: Workload, zero: int, micro_batch_tokens: int) -> MemoryTable:
    """What one device holds while the load is trained at a ZeRO stage with micro-batches of so many padded
    source + target tokens (half of each, for the estimate)."""
    width = 4 if load.precision == "fp32" else 2
    total = load.architecture.parameters
    trainable = load.architecture.trainable(load.freeze)
    master = 0 if load.precision == "fp32" else 4
    moments = 8 if load.optimizer == "adamw" else 1  # adafactor keeps rows and columns only
    weights, gradients, optimizer = total * width, trainable * width, trainable * (master + moments)
    if zero >= 1:
        optimizer //= load.world
    if zero >= 2:
        gradients //= load.world
    if zero >= 3:
        weights //= load.world
    if load.offload != "none":
        optimizer = 0
    if load.offload == "parameters":
        weights = 0
    per_token, logits = _token_bytes(load, width)
    return MemoryTable(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=per_token * micro_batch_tokens,
        logits=logits * micro_batch_tokens,
        workspace=_WORKSPACE_BYTES,
    )


def choose_zero(load: Workload) -> int:
    """The lowest ZeRO stage at which the states and the smallest micro-batch fit; 3 when none does.

    One device has nobody to share with and gets the least: 0 in fp32, 1 in 16 bits (see E516) or when the
    optimizer is offloaded, 3 when the parameters are.
    """
    floor = {"none": 0 if load.precision == "fp32" else 1, "optimizer": 1, "parameters": 3}[load.offload]
    if load.memory_gb is None or load.world == 1:
        return floor
    for zero in range(floor, 3):
        if memory_table(load, zero, CPU_MICRO_BATCH_TOKENS).total <= _available(load):
            return zero
    return 3


def choose_micro_batch_tokens(load: Workload, zero: int) -> int:
    """Padded source + target tokens that fit beside the model's states, a multiple of 1024."""
    least, most = MICRO_BATCH_TOKENS
    if load.device == "cpu":
        return CPU_MICRO_BATCH_TOKENS
    if load.memory_gb is None:
        return least
    table = memory_table(load, zero, 1)
    free = _available(load) - table.states - table.workspace
    tokens = int(free // (table.activations + table.logits))
    return max(least, min(most, tokens // 1024 * 1024))


def training_disk_bytes(architecture: Architecture, freeze: Collection[str]) -> int:
    """Disk at the peak of a training: the best checkpoint in fp32 and two resumable ones (master weights and
    moments of what is trained)."""
    return 4 * architecture.parameters + 2 * 12 * architecture.trainable(freeze)


def token_flops(architecture: Architecture, freeze: Collection[str]) -> int:
    """Floating-point operations per training token, attention scores not counted: 2 per weight forward, 2 for
    the gradient with respect to the input, 2 for the weight's own where it is trained. Frozen layers below
    everything trained need no backward."""
    encoder = architecture.encoder_layers * architecture.encoder_layer()
    decoder = architecture.decoder_layers * architecture.decoder_layer()
    head = architecture.decoder_vocab_size * architecture.d_model
    head_cost = 4 if "embeddings" in freeze and architecture.tied else 6
    # Half of the tokens are source, half are target.
    return (encoder * (2 if "encoder" in freeze else 6) + decoder * 6 + head * head_cost) // 2


def _available(load: Workload) -> float:
    assert load.memory_gb is not None
    share = load.per_node if load.device == "cpu" else 1  # processes on one machine share its memory
    return load.memory_gb * GIB * _USABLE / share


def _token_bytes(load: Workload, width: int) -> tuple[int, int]:
    """(activations, logits) of one token of a micro-batch in which every second token is a target."""
    shape = load.architecture
    gate = 2 if shape.gated else 1
    encoder = shape.encoder_layers * (
        _SAVED_WIDTHS["encoder"] * shape.d_model + 2 * gate * shape.encoder_ffn_dim
    )
    decoder = shape.decoder_layers * (
        _SAVED_WIDTHS["decoder"] * shape.d_model + 2 * gate * shape.decoder_ffn_dim
    )
    if "encoder" in load.freeze:
        encoder = 2 * shape.d_model  # its output and one layer at work
    return (encoder + decoder) * width // 2, shape.decoder_vocab_size * _LOGIT_BYTES * _LOGIT_COPIES // 2
