"""config.json -> the facts of a model: family, depths, widths, parameter counts.

The counts are those of `sum(p.numel() for p in model.parameters())` in transformers 5: tied weights once,
sinusoidal position tables included (they are parameters there), buffers not. A test builds every family on
the meta device and compares.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .diagnostics import listed, shown_path

FAMILIES = ("bart", "marian", "mbart", "pegasus", "t5")

# Our name -> the family's name in config.json, and what transformers takes when it is not there.
_BART_FIELDS = {
    "encoder_layers": ("encoder_layers", 12),
    "decoder_layers": ("decoder_layers", 12),
    "d_model": ("d_model", 1024),
    "encoder_heads": ("encoder_attention_heads", 16),
    "decoder_heads": ("decoder_attention_heads", 16),
    "encoder_ffn_dim": ("encoder_ffn_dim", 4096),
    "decoder_ffn_dim": ("decoder_ffn_dim", 4096),
    "vocab_size": ("vocab_size", 50265),
    "max_positions": ("max_position_embeddings", 1024),
}
_T5_FIELDS = {
    "encoder_layers": ("num_layers", 6),
    "decoder_layers": ("num_decoder_layers", None),  # as many as the encoder's
    "d_model": ("d_model", 512),
    "encoder_heads": ("num_heads", 8),
    "decoder_heads": ("num_heads", 8),
    "encoder_ffn_dim": ("d_ff", 2048),
    "decoder_ffn_dim": ("d_ff", 2048),
    "vocab_size": ("vocab_size", 32128),
}
FIELDS: dict[str, dict[str, tuple[str, int | None]]] = {
    "bart": dict(_BART_FIELDS),
    "mbart": dict(_BART_FIELDS),
    "pegasus": dict(_BART_FIELDS),
    "marian": {**_BART_FIELDS, "vocab_size": ("vocab_size", 58101)},
    "t5": dict(_T5_FIELDS),
}
LEARNED_POSITIONS = ("bart", "mbart")  # tables of max_positions + 2 rows
STATIC_POSITIONS = ("marian", "pegasus")  # sinusoidal tables: parameters that are never trained
EMBEDDING_NORM = ("bart", "mbart")
FINAL_NORM = ("mbart", "pegasus")
# Older names, read where the field itself is not there.
_ALIASES = {
    "encoder_layers": "num_hidden_layers",
    "num_layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "encoder_attention_heads": "num_attention_heads",
    "num_heads": "num_attention_heads",
    "d_kv": "head_dim",
}


class ArchitectureError(ValueError):
    """A config.json that gives no model of ours. `code` is the diagnostic's."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A model's shape. Depths in layers, widths in units, `max_positions` in tokens (None: no such table).

    `head_dim` is the width of one attention head (T5 sets it apart from d_model). `tied`: the vocabulary
    projection is the embedding. `shared`: encoder and decoder have one embedding. `legacy_layers`: the old
    `num_hidden_layers` of the same file, which transformers 5 prefers to `encoder_layers`.
    """

    family: str
    encoder_layers: int
    decoder_layers: int
    d_model: int
    encoder_heads: int
    decoder_heads: int
    encoder_ffn_dim: int
    decoder_ffn_dim: int
    vocab_size: int
    decoder_vocab_size: int
    max_positions: int | None
    head_dim: int
    gated: bool
    relative_buckets: int
    tied: bool
    shared: bool
    legacy_layers: int | None

    @property
    def parameters(self) -> int:
        """All parameters, tied ones once."""
        return sum(count for count, _ in self._groups())

    def trainable(self, freeze: Collection[str]) -> int:
        """Parameters that are trained when `freeze` (of encoder, embeddings, positions) is frozen.

        A part that is shared with a frozen one is frozen: the encoder's token embedding is the decoder's and,
        where tied, the vocabulary projection. Sinusoidal tables are never trained.
        """
        frozen = {*freeze, "static"}
        return sum(count for count, parts in self._groups() if not frozen & parts)

    def encoder_layer(self) -> int:
        """Parameters of one encoder layer, T5's position bias not counted."""
        return self._attention(self.encoder_heads) + self._feed_forward(self.encoder_ffn_dim)

    def decoder_layer(self) -> int:
        """Parameters of one decoder layer: self-attention, cross-attention, feed-forward."""
        return 2 * self._attention(self.decoder_heads) + self._feed_forward(self.decoder_ffn_dim)

    def shrunk(
        self,
        *,
        encoder_layers: int,
        decoder_layers: int,
        d_model: int,
        heads: int | None,
        ffn_dim: int | None,
    ) -> Architecture:
        """The same model with other depths and widths. `heads` and `ffn_dim` None: as they are."""
        head_dim = self.head_dim
        if self.family != "t5":
            head_dim = d_model // (heads or self.encoder_heads)
        return replace(
            self,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            d_model=d_model,
            head_dim=head_dim,
            encoder_heads=heads or self.encoder_heads,
            decoder_heads=heads or self.decoder_heads,
            encoder_ffn_dim=ffn_dim or self.encoder_ffn_dim,
            decoder_ffn_dim=ffn_dim or self.decoder_ffn_dim,
            legacy_layers=None,
        )

    def changes(self, teacher: Architecture) -> dict[str, int]:
        """The config.json fields that make the teacher's config this one's: both depths always (T5 would keep
        the old one of the other stack), widths where they differ."""
        fields = FIELDS[self.family]
        changed: dict[str, int] = {}
        for name, (field, _) in fields.items():
            value = getattr(self, name)
            if name in ("encoder_layers", "decoder_layers") or value != getattr(teacher, name):
                changed[field] = value
        return changed

    def _groups(self) -> list[tuple[int, frozenset[str]]]:
        """(parameters, parts they belong to); each parameter in one group."""
        d = self.d_model
        groups: list[tuple[int, frozenset[str]]] = []

        def add(count: int, *parts: str) -> None:
            groups.append((count, frozenset(parts)))

        if self.shared and (self.tied or self.family == "t5"):
            add(self.vocab_size * d, "embeddings", "encoder")
        else:
            # Untied, transformers 5 makes all of shared, both embed_tokens and the head separate weights;
            # a Marian model with two vocabularies has no `shared` at all.
            if self.shared:
                add(self.vocab_size * d, "embeddings")
            add(self.vocab_size * d, "embeddings", "encoder")
            add(self.decoder_vocab_size * d, "embeddings")
        if not self.tied:
            add(self.decoder_vocab_size * d, "head")
        if self.max_positions is not None:
            static = ("static",) if self.family in STATIC_POSITIONS else ()
            rows = self.max_positions + (2 if self.family in LEARNED_POSITIONS else 0)
            add(rows * d, "positions", "encoder", *static)
            add(rows * d, "positions", *static)
        norm = d if self.family == "t5" else 2 * d
        norms = (self.family in EMBEDDING_NORM) + (self.family in FINAL_NORM or self.family == "t5")
        for part, layers, layer, heads in (
            ("encoder", self.encoder_layers, self.encoder_layer(), self.encoder_heads),
            ("decoder", self.decoder_layers, self.decoder_layer(), self.decoder_heads),
        ):
            # T5's position bias exists in block 0 alone
            bias = self.relative_buckets * heads if self.family == "t5" and layers else 0
            add(layers * layer + bias + norms * norm, part)
        return groups

    def _attention(self, heads: int) -> int:
        d = self.d_model
        if self.family == "t5":
            return 4 * d * heads * self.head_dim + d
        return 4 * (d * d + d) + 2 * d

    def _feed_forward(self, ffn_dim: int) -> int:
        d = self.d_model
        if self.family == "t5":
            return (3 if self.gated else 2) * d * ffn_dim + d
        return 2 * d * ffn_dim + ffn_dim + d + 2 * d


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder.

    Raises `ArchitectureError` E502 when it is missing, cut short or no JSON object.
    """
    file = folder / "config.json"
    hint = "a model folder has config.json, the weights and the tokenizer's files; fetch it again"
    try:
        config = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ArchitectureError(
            "E502", f"{shown_path(folder)} is no model folder: config.json: {error.strerror}", hint
        ) from error
    except ValueError as error:
        raise ArchitectureError("E502", f"{shown_path(file)} is damaged: {error}", hint) from error
    if not isinstance(config, dict):
        raise ArchitectureError("E502", f"{shown_path(file)} is damaged: it holds no mapping", hint)
    return config


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The facts of a parsed config.json.

    A file with both `encoder_layers` and the older `num_hidden_layers` means the former: that is what the
    weights were saved with. transformers 5 reads the latter, so the runtime drops it before it loads.

    Raises `ArchitectureError`: E503 a family that is not supported; E502 a field of the wrong kind.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise ArchitectureError(
            "E503",
            f"models of the family {family!r} cannot be distilled"
            if family
            else "config.json has no model_type",
            f"the families are {listed(FAMILIES, 'and')}",
        )
    values: dict[str, Any] = {}
    for name, (field, default) in FIELDS[family].items():
        values[name] = _whole(config, field, default)
    if values["decoder_layers"] is None:
        values["decoder_layers"] = config.get("num_layers") or 6  # the field's own value, not its alias's
    heads = values["encoder_heads"]
    tied = config.get("tie_word_embeddings", True) is not False
    shared = config.get("share_encoder_decoder_embeddings", True) is not False or family != "marian"
    if family == "t5":
        # The old flag of an untied T5 (v1.1, Flan) is saved as scale_decoder_outputs by transformers 5.
        tied = tied and config.get("scale_decoder_outputs", True) is not False
    return Architecture(
        family=family,
        **{"max_positions": None, **values},
        decoder_vocab_size=values["vocab_size"]
        if shared
        else _whole(config, "decoder_vocab_size", values["vocab_size"]),
        head_dim=_whole(config, "d_kv", 64) if family == "t5" else values["d_model"] // heads,
        gated=str(config.get("feed_forward_proj", "relu")).startswith("gated-"),
        relative_buckets=_whole(config, "relative_attention_num_buckets", 32) if family == "t5" else 0,
        tied=tied,
        shared=shared,
        legacy_layers=_whole(config, "num_hidden_layers", None) if "num_hidden_layers" in config else None,
    )


def _whole(config: Mapping[str, Any], field: str, default: int | None) -> Any:
    value = config.get(field)
    if value is None and field in _ALIASES:
        value = config.get(_ALIASES[field])
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArchitectureError(
            "E502",
            f"config.json: {field} is {value!r}, not a whole number of at least 1",
            "fetch the model again",
        )
    return value
