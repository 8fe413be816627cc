"""What a micro-batch keeps on a device until its backward is done: activations, logits, the teacher's states.

The sizes of a layer are those of the tensors that autograd saves (counted with saved-tensor hooks on models of
transformers 5, kernels that keep no attention maps), the norms of T5 in float32. With checkpointing a layer keeps
its input, and one layer at a time the rest.
"""

from __future__ import annotations

from ..diagnostics.record import record
from ..extensions.families import FAMILIES
from ..resolve.architecture import Architecture
from ..tasks.task import HEADS
from .workload import Teaching, Workload

# The head works in chunks: the logits of one, and what its terms make of them, are there at a time. A test
# compares with the runtime's.
HEAD_CHUNK_BYTES = 128 << 20
_CHUNK_COPIES = 6  # that the size of a chunk is reckoned with

_LOGIT_BYTES = 4  # cross-entropy and divergences are computed in float32
_LABEL_COPIES = 3  # logits, log-probabilities, their gradient
_TEACHER_COPIES = 4  # the teacher's logits and log-probabilities, the student's at temperature, their gradient
_MAP_COPIES = 4  # scores, softmax, dropout mask, and the map that the loss reads
_MAP_COPIES_AGAIN = 2  # with checkpointing: that map, and the others of the layer that is computed again
_AT_WORK = 5  # multiples of d_model that a layer without backward needs while it runs, beside its ffn


@record
class LayerWidths:
    """Numbers that a layer keeps for each token, in multiples of d_model and of ffn_dim."""

    encoder: int
    decoder: int
    ffn: int


@record
class Tokens:
    """Padded tokens of a micro-batch by what reads them: the encoder, the decoder, the vocabulary head."""

    source: int
    target: int
    head: int


@record
class BatchMemory:
    """Bytes."""

    activations: int
    logits: int
    signals: int

    @property
    def total(self) -> int:
        return self.activations + self.logits + self.signals


def batch_memory(load: Workload, num_tokens: int) -> BatchMemory:
    """What a micro-batch of so many padded source + target tokens takes: of the mixes of the two that occur,
    the one that takes most. Rows of a micro-batch are alike in length, so a mix of short sources can be half
    targets, and one of long sources is as the limits are."""
    mixes = (_memory(load, tokens) for tokens in token_mixes(load.architecture, num_tokens, load.lengths))
    return max(mixes, key=lambda memory: memory.total)


def token_mixes(shape: Architecture, num_tokens: int, lengths: tuple[int, int] | None) -> list[Tokens]:
    """The mixes of source and target tokens that a micro-batch may have. A classifier with a decoder reads
    its input on both sides."""
    positions = HEADS[shape.head].positions
    if shape.encoder_only:
        return [Tokens(num_tokens, 0, num_tokens if positions == "source" else 0)]
    if positions == "row":
        return [Tokens(num_tokens, num_tokens, 0)]
    halves = (1, 1)
    mixes = []
    for source, target in dict.fromkeys((halves, lengths or halves)):
        targets = num_tokens * target // (source + target)
        mixes.append(Tokens(num_tokens - targets, targets, targets))
    return mixes


def _memory(load: Workload, tokens: Tokens) -> BatchMemory:
    shape, teaching, width = load.architecture, load.teaching, load.width
    kept = 0
    at_work = [0]
    again = [0]  # what a layer keeps that is computed again
    widths = layer_widths(shape, width)
    checkpointing = load.checkpointing is True
    if "encoder" in load.freeze:
        kept += tokens.source * shape.d_model  # its output
        at_work.append(tokens.source * _working(shape, "encoder"))
    else:
        layer = tokens.source * (widths.encoder * shape.d_model + widths.ffn * shape.encoder_ffn_dim)
        again.append(layer)
        kept += shape.encoder_layers * (tokens.source * shape.d_model if checkpointing else layer)
    cross = 2 * shape.decoder_heads * shape.head_dim  # keys and values of the source, in every decoder layer
    layer = tokens.target * (widths.decoder * shape.d_model + widths.ffn * shape.decoder_ffn_dim)
    layer += tokens.source * cross
    again.append(layer)
    kept += shape.decoder_layers * (tokens.target * shape.d_model if checkpointing else layer)
    signals = 0
    if teaching is not None:
        signals = _signals(teaching, tokens)
        teacher = teaching.architecture
        at_work += [tokens.source * _working(teacher, "encoder"), tokens.target * _working(teacher, "decoder")]
        if "attention" in teaching.needs and load.lengths is not None:
            copies = _MAP_COPIES_AGAIN if checkpointing else _MAP_COPIES
            kept += _attention_maps(shape, tokens, load.lengths) * copies
            signals += _attention_maps(teacher, tokens, load.lengths)
    if checkpointing:
        at_work += again
    return BatchMemory((kept + max(at_work)) * width, _logits(load, tokens), signals * width)


def layer_widths(shape: Architecture, width: int) -> LayerWidths:
    """What a layer keeps for each token: measured, see the head of this file."""
    if not FAMILIES[shape.family].rms:
        return LayerWidths(encoder=10, decoder=15, ffn=2)
    ffn = 8 if shape.gated else 3
    return LayerWidths(12, 18, ffn) if width == 4 else LayerWidths(19, 30, ffn)


def _working(shape: Architecture, stack: str) -> int:
    ffn = shape.encoder_ffn_dim if stack == "encoder" else shape.decoder_ffn_dim
    return _AT_WORK * shape.d_model + ffn * (2 if shape.gated else 1)


def _signals(teaching: Teaching, tokens: Tokens) -> int:
    """Numbers of the teacher's states that are there when the loss is computed: the last one of each stack,
    and, where hidden states are compared, the outputs of all layers, which transformers gives together."""
    teacher = teaching.architecture
    hidden = "hidden" in teaching.needs
    layers = 1
    if hidden:
        layers += teacher.decoder_layers or teacher.encoder_layers
    states = (tokens.target or tokens.source) * layers
    if teacher.decoder_layers:
        encoder_layers = 0 if teaching.shared_encoder else 1
        if hidden and not teaching.shared_encoder:
            encoder_layers += teacher.encoder_layers
        states += tokens.source * encoder_layers
    return states * teacher.d_model


def _attention_maps(shape: Architecture, tokens: Tokens, lengths: tuple[int, int]) -> int:
    """Numbers of one copy of all attention maps: a row of scores for each token and head."""
    source, target = lengths
    encoder = tokens.source * shape.encoder_layers * shape.encoder_heads * source
    decoder = tokens.target * shape.decoder_layers * shape.decoder_heads * (target + source)
    return encoder + decoder


def _logits(load: Workload, tokens: Tokens) -> int:
    copies = _LABEL_COPIES
    if load.teaching is not None and "logits" in load.teaching.needs:
        copies += _TEACHER_COPIES
    chunk = HEAD_CHUNK_BYTES // (_CHUNK_COPIES * _LOGIT_BYTES * load.architecture.num_logits)
    rows = min(tokens.head, max(16, chunk))
    return rows * load.architecture.num_logits * _LOGIT_BYTES * copies
