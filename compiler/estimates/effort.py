"""What a training and the writing of pseudo-labels cost: optimizer steps, tokens, floating-point operations.

Operations are counted by weights (2 for each weight and token forward, 2 for the gradient with respect to the
input, 2 for the weight's own); scores of attention, norms and softmax are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import ceil
from typing import Any

from ..diagnostics.record import record
from ..resolve.architecture import Architecture, decoder_layer, encoder_layer
from ..resolve.data_sizes import DataSize
from ..tasks.task import HEADS
from .workload import Teaching

ASSUMED_BEAMS = 4  # where a spec leaves them to the checkpoint


@record
class Effort:
    """`steps` None: no optimizer is at work. `tokens`: source and target, all epochs together."""

    steps: int | None
    tokens: int
    flops: float


@record
class ForwardFlops:
    """Operations of a forward pass: `encoder` and `cross` (the keys and values that the decoder makes of it)
    for each source token, `decoder` and `head` for each target token."""

    encoder: int
    cross: int
    decoder: int
    head: int


def training_effort(
    settings: Mapping[str, Any], shape: Architecture, teaching: Teaching | None, size: DataSize
) -> Effort | None:
    """Of a `train` stage's settings on a training set, until its last epoch or step: a training that stops
    earlier takes less. None: it ends by time or patience alone."""
    steps = training_steps(settings, size)
    if steps is None:
        return None
    rows = steps / _epoch_steps(settings["batch"], size) * size.rows
    flops = row_flops(shape, settings["freeze"], teaching, size.source_tokens, size.target_tokens)
    return Effort(steps, round(rows * (size.source_tokens + size.target_tokens)), rows * flops)


def training_steps(settings: Mapping[str, Any], size: DataSize) -> int | None:
    """The most optimizer steps of a training; None: it ends by time or patience alone."""
    stopping = settings["stopping"]
    limits: list[int] = [] if stopping["max_steps"] is None else [stopping["max_steps"]]
    if stopping["max_epochs"] is not None:
        limits.append(ceil(stopping["max_epochs"] * _epoch_steps(settings["batch"], size)))
    return min(limits, default=None)


def _epoch_steps(batch: Mapping[str, Any], size: DataSize) -> int:
    """A step has one row or more."""
    amount = size.rows if batch["unit"] == "examples" else size.rows * (size.source_tokens + size.target_tokens)
    steps: int = ceil(amount / batch["size"])
    return max(1, min(size.rows, steps))


def label_effort(settings: Mapping[str, Any], shape: Architecture, size: DataSize) -> Effort:
    """Of a `pseudo-labels` stage: the encoder once for each row, the decoder once for each token and beam.
    Labels are taken to be as long as the targets."""
    beams = settings["generation"]["beams"] or ASSUMED_BEAMS
    each = forward_flops(shape)
    source = min(size.source_tokens, settings["max_source_tokens"])
    flops = source * (each.encoder + each.cross) + size.target_tokens * beams * (each.decoder + each.head)
    return Effort(None, round(size.rows * (source + size.target_tokens)), size.rows * flops)


def row_flops(
    shape: Architecture,
    freeze: Collection[str],
    teaching: Teaching | None,
    source_tokens: float,
    target_tokens: float,
) -> float:
    """Operations of one row of a training: forward and backward of what is trained, forward alone of a frozen
    encoder and of the teacher, an encoder that both share once."""
    each = forward_flops(shape)
    encoder_frozen = "encoder" in freeze
    # A frozen head still passes the gradient on; weights behind a frozen encoder pass it to nobody.
    head_frozen = shape.tied and bool({"embeddings", "encoder"} & set(freeze))
    encoder = each.encoder * (1 if encoder_frozen else 3) + each.cross * (2 if encoder_frozen else 3)
    decoder = each.decoder * 3 + each.head * (2 if head_frozen else 3)
    if teaching is not None:
        teacher = forward_flops(teaching.architecture)
        encoder += teacher.cross + (0 if teaching.shared_encoder else teacher.encoder)
        decoder += teacher.decoder + teacher.head
    return source_tokens * encoder + _read_by_decoder(shape, source_tokens, target_tokens) * decoder


def forward_flops(shape: Architecture) -> ForwardFlops:
    """For each token of a forward pass."""
    cross = 2 * shape.d_model * shape.decoder_heads * shape.head_dim if shape.decoder_layers else 0
    return ForwardFlops(
        encoder=2 * shape.encoder_layers * encoder_layer(shape),
        cross=2 * shape.decoder_layers * cross,
        decoder=2 * shape.decoder_layers * (decoder_layer(shape) - cross) if shape.decoder_layers else 0,
        head=0 if HEADS[shape.head].positions == "row" else 2 * shape.num_logits * shape.d_model,
    )


def _read_by_decoder(shape: Architecture, source_tokens: float, target_tokens: float) -> float:
    """Tokens that go through the decoder, or, where there is none, through the head: a classifier and a masked
    language model read their input there."""
    return target_tokens if HEADS[shape.head].positions == "target" else source_tokens
