"""Bytes on disk: checkpoints, pseudo-labels, and what a cache of the teacher's states would take."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from .architecture import Architecture
from .data_sizes import CHARACTERS_PER_TOKEN, DataSize
from .workload import Teaching

_LABEL_RECORD_BYTES = 100  # id, score and quality of a label, and the JSON around them
_RESUMABLE_CHECKPOINTS = 2


@dataclass(frozen=True)
class SignalBytes:
    """A cache of everything that the teacher computes of a training set, the two sides apart: they are decided
    apart, and mixes of targets share the encoder's."""

    encoder: int
    decoder: int


def checkpoint_bytes(shape: Architecture, freeze: Collection[str]) -> int:
    """At the peak of a training: the best checkpoint in fp32 and two resumable ones (master weights and
    moments of what is trained)."""
    return 4 * shape.parameters + _RESUMABLE_CHECKPOINTS * 12 * shape.trainable(freeze)


def label_bytes(size: DataSize) -> int:
    """Pseudo-labels for every row of a training set, as long as its targets."""
    return round(size.rows * (size.target_tokens * CHARACTERS_PER_TOKEN + _LABEL_RECORD_BYTES))


def signal_bytes(
    teacher: Architecture,
    teaching: Teaching | None,
    phi: Mapping[str, Sequence[int] | None],
    size: DataSize,
    *,
    shared_encoder: bool,
    width: int,
) -> SignalBytes:
    """A state is d_model numbers of `width` bytes for each token. Encoder side: the last state where the
    student's frozen encoder is the teacher's, else the outputs that φ supervises. Decoder side: the last
    state, from which the logits are one product away, and the outputs that φ supervises; the last layer's is
    the last state, which is kept once.

    XSUM (204,045 rows of 358 and 21 words, 1.3 tokens a word) with BART-large in bf16 and φ [3, 7, 11]: 194 GB
    and 34 GB.
    """
    encoder_states = 1 if shared_encoder else len(set(phi.get("encoder") or ()))
    decoder_states = 0
    if teaching is not None and teacher.decoder_layers:
        decoder_states = len({*(phi.get("decoder") or ()), teacher.decoder_layers - 1})
    elif teaching is not None and not shared_encoder:
        encoder_states = len({*(phi.get("encoder") or ()), teacher.encoder_layers - 1})
    state = teacher.d_model * width
    return SignalBytes(
        encoder=round(size.rows * size.source_tokens * encoder_states * state),
        decoder=round(size.rows * size.target_tokens * decoder_states * state),
    )
