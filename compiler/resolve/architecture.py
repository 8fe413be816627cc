"""The shape of a model: family, head, depths, widths; and its parameters, counted from them.

The counts are those of `sum(p.numel() for p in model.parameters())` in transformers 5: tied weights once,
sinusoidal position tables included (they are parameters there), buffers not. A test builds every family on
the meta device and compares.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from ..diagnostics.record import record
from ..extensions.families import FAMILIES, layout_of
from ..tasks.task import HEADS, HeadName

Groups = list[tuple[int, frozenset[str]]]


@record
class Architecture:
    """A model's shape. Depths in layers, widths in units, `max_positions` in tokens (None: no such table).

    Of an encoder-only model everything that is a decoder's is 0. `num_labels`: classes of a classification
    head, else 0. `spare_positions`: rows of the position table that no token uses. `head_dim` is the width of
    one attention head (T5 sets it apart from d_model). `tied`: the vocabulary projection is the embedding.
    `shared`: encoder and decoder have one embedding. `legacy_layers`: the old `num_hidden_layers` of the same
    file, which transformers 5 prefers to the family's own field.
    """

    family: str
    head: HeadName
    num_labels: int
    encoder_layers: int
    decoder_layers: int
    d_model: int
    encoder_heads: int
    decoder_heads: int
    encoder_ffn_dim: int
    decoder_ffn_dim: int
    vocab_size: int
    decoder_vocab_size: int
    token_types: int
    max_positions: int | None
    spare_positions: int
    head_dim: int
    gated: bool
    relative_buckets: int
    tied: bool
    shared: bool
    legacy_layers: int | None

    @property
    def encoder_only(self) -> bool:
        """Has it no decoder?"""
        return FAMILIES[self.family].encoder_only

    @property
    def layout(self) -> str:
        """The family of ours that this one is laid out as: itself, if it is ours."""
        return layout_of(self.family)

    @property
    def size(self) -> str:
        """Depths as the field writes them: 12-3, or 6 for an encoder-only model."""
        return str(self.encoder_layers) if self.encoder_only else f"{self.encoder_layers}-{self.decoder_layers}"

    @property
    def num_logits(self) -> int:
        """Width of the output: entries of the vocabulary, or classes."""
        return self.num_labels if HEADS[self.head].classes else self.decoder_vocab_size

    @property
    def parameters(self) -> int:
        """All parameters, tied ones once."""
        return sum(count for count, _ in parameter_groups(self))

    def trainable(self, freeze: Collection[str]) -> int:
        """Parameters that are trained when `freeze` (of encoder, embeddings, positions) is frozen.

        A part that is shared with a frozen one is frozen: the encoder's token embedding is the decoder's and,
        where tied, the vocabulary projection. Sinusoidal tables are never trained; those of a DistilBERT are
        ordinary weights.
        """
        frozen = {*freeze, "static"}
        return sum(count for count, parts in parameter_groups(self) if not frozen & parts)

    def shrunk(
        self,
        *,
        encoder_layers: int,
        decoder_layers: int,
        d_model: int,
        heads: int | None,
        ffn_dim: int | None,
        family: str | None = None,
    ) -> Architecture:
        """The same model with other depths and widths. `heads`, `ffn_dim` and `family` None: as they are.
        An encoder-only model takes no notice of `decoder_layers`."""
        heads_now = heads or self.encoder_heads
        decoder: dict[str, Any] = {}
        if not self.encoder_only:
            decoder = {
                "decoder_layers": decoder_layers,
                "decoder_heads": heads or self.decoder_heads,
                "decoder_ffn_dim": ffn_dim or self.decoder_ffn_dim,
            }
        family = family or self.family
        return replace(
            self,
            family=family,
            encoder_layers=encoder_layers,
            d_model=d_model,
            head_dim=self.head_dim if FAMILIES[family].own_head_width else d_model // heads_now,
            encoder_heads=heads_now,
            encoder_ffn_dim=ffn_dim or self.encoder_ffn_dim,
            token_types=self.token_types if "token_types" in FAMILIES[family].fields else 0,
            legacy_layers=None,
            **decoder,
        )

    def changes(self, teacher: Architecture) -> dict[str, Any]:
        """The config.json fields that make the teacher's config this one's: depths always (T5 would keep the
        old one of the other stack), widths where they differ. Of another family: all that are sizes, under
        the family's own names; what else there is (activation, dropout, token ids) is the teacher's."""
        other = self.family != teacher.family
        changed: dict[str, Any] = {}
        for name, (field, _) in FAMILIES[self.family].fields.items():
            value = getattr(self, name)
            if other or name in ("encoder_layers", "decoder_layers") or value != getattr(teacher, name):
                changed[field] = value
        return {**changed, **FAMILIES[self.family].taken_config} if other else changed

    def changed(self, family: str, config: Mapping[str, Any]) -> Architecture:
        """The inverse of `changes`: this model as one of `family` with these config fields."""
        fields = FAMILIES[family].fields
        sizes = {name: config.get(field, getattr(self, name)) for name, (field, _) in fields.items()}
        return replace(
            self,
            family=family,
            **{"token_types": 0, **sizes},
            head_dim=self.head_dim if FAMILIES[family].own_head_width else sizes["d_model"] // sizes["encoder_heads"],
            legacy_layers=None,
        )


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
    if shape.shared and (shape.tied or FAMILIES[shape.family].one_embedding):
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
    norms = (family.embedding_norm + family.final_norm) * (1 if family.rms else 2) * shape.d_model
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
    if HEADS[shape.head].positions == "target":
        return 0 if shape.tied else vocabulary * d
    if HEADS[shape.head].classes:
        # A dense layer (in BERT the pooler) and the projection to the classes.
        return d * d + d + shape.num_labels * (d + 1)
    transform = d * d + d + 2 * d  # dense layer and norm
    if shape.tied:
        return transform + vocabulary
    # An untied projection of BERT or RoBERTa has a bias of its own beside the head's.
    biases = FAMILIES[shape.family].head_biases * vocabulary
    return transform + vocabulary * d + biases


def _attention(shape: Architecture, heads: int) -> int:
    """Projections of queries, keys, values and output, with the norm."""
    d = shape.d_model
    if FAMILIES[shape.family].rms:
        return 4 * d * heads * shape.head_dim + d
    return 4 * (d * d + d) + 2 * d


def _feed_forward(shape: Architecture, ffn_dim: int) -> int:
    """Both projections (three where gated), with the norm."""
    d = shape.d_model
    if FAMILIES[shape.family].rms:
        return (3 if shape.gated else 2) * d * ffn_dim + d
    return 2 * d * ffn_dim + ffn_dim + d + 2 * d
