"""The parameters of a model, counted from its shape.

The counts are those of `sum(p.numel() for p in model.parameters())` in transformers 5: tied weights once,
sinusoidal position tables included (they are parameters there), buffers not. A test builds every family on
the meta device and compares.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from .families import FAMILIES

if TYPE_CHECKING:
    from ..architecture import Architecture

Groups = list[tuple[int, frozenset[str]]]


@cache  # a sweep asks for the same few shapes again and again
def parameter_groups(shape: Architecture) -> Groups:
    """(parameters, the parts they belong to), each parameter in one group.

    Parts: encoder (the stack with its embeddings, positions and norms), decoder, embeddings (of tokens and
    token types), positions, head, static (never trained). What is shared belongs to several: a tied
    vocabulary projection is the embedding and has no group of its own.
    """
    groups = _embeddings(shape) + _positions(shape) + _stacks(shape)
    head = _head(shape)
    return [*groups, (head, frozenset({"head"}))] if head else groups


def encoder_layer(shape: Architecture) -> int:
    """Parameters of one encoder layer, T5's position bias not counted."""
    return _attention(shape, shape.encoder_heads) + _feed_forward(shape, shape.encoder_ffn_dim)


def decoder_layer(shape: Architecture) -> int:
    """Parameters of one decoder layer: self-attention, cross-attention, feed-forward."""
    return 2 * _attention(shape, shape.decoder_heads) + _feed_forward(shape, shape.decoder_ffn_dim)


def _embeddings(shape: Architecture) -> Groups:
    """Token embeddings of both stacks, and token types."""
    everywhere = frozenset({"embeddings", "encoder"})
    table = shape.vocab_size * shape.d_model
    if shape.encoder_only:
        return [(table + shape.token_types * shape.d_model, everywhere)]
    if shape.shared and (shape.tied or shape.layout == "t5"):
        return [(table, everywhere)]
    # Untied, transformers 5 makes all of `shared`, both `embed_tokens` and the head separate weights; a Marian
    # model with two vocabularies has no `shared` at all.
    groups = [(table, everywhere), (shape.decoder_vocab_size * shape.d_model, frozenset({"embeddings"}))]
    return [*groups, (table, frozenset({"embeddings"}))] if shape.shared else groups


def _positions(shape: Architecture) -> Groups:
    """Tables of absolute positions, one for each stack."""
    if shape.max_positions is None:
        return []
    static = {"static"} if FAMILIES[shape.family].positions == "sinusoidal" else set()
    table = (shape.max_positions + shape.spare_positions) * shape.d_model
    of_encoder = (table, frozenset({"positions", "encoder", *static}))
    return [of_encoder] if shape.encoder_only else [of_encoder, (table, frozenset({"positions", *static}))]


def _stacks(shape: Architecture) -> Groups:
    """Layers and the norms around them."""
    family = FAMILIES[shape.family]
    t5 = shape.layout == "t5"
    norms = (family.embedding_norm + family.final_norm) * (shape.d_model if t5 else 2 * shape.d_model)
    groups: Groups = []
    for part, layers, layer, heads in (
        ("encoder", shape.encoder_layers, encoder_layer(shape), shape.encoder_heads),
        ("decoder", shape.decoder_layers, decoder_layer(shape), shape.decoder_heads),
    ):
        if part == "decoder" and shape.encoder_only:
            continue
        bias = shape.relative_buckets * heads  # T5's position bias exists in block 0 alone
        groups.append((layers * layer + bias + norms, frozenset({part})))
    return groups


def _head(shape: Architecture) -> int:
    """What stands on top, a tied vocabulary projection not counted."""
    d, vocabulary = shape.d_model, shape.decoder_vocab_size
    if shape.head == "lm":
        return 0 if shape.tied else vocabulary * d
    if shape.head == "classification":
        # A dense layer (in BERT the pooler) and the projection to the classes.
        return d * d + d + shape.num_labels * (d + 1)
    transform = d * d + d + 2 * d  # dense layer and norm
    if shape.tied:
        return transform + vocabulary
    # An untied projection of BERT or RoBERTa has a bias of its own beside the head's.
    biases = vocabulary if shape.family == "distilbert" else 2 * vocabulary
    return transform + vocabulary * d + biases


def _attention(shape: Architecture, heads: int) -> int:
    """Projections of queries, keys, values and output, with the norm."""
    d = shape.d_model
    if shape.layout == "t5":
        return 4 * d * heads * shape.head_dim + d
    return 4 * (d * d + d) + 2 * d


def _feed_forward(shape: Architecture, ffn_dim: int) -> int:
    """Both projections (three where gated), with the norm."""
    d = shape.d_model
    if shape.layout == "t5":
        return (3 if shape.gated else 2) * d * ffn_dim + d
    return 2 * d * ffn_dim + ffn_dim + d + 2 * d
