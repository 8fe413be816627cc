"""The model families, one row each: what config.json calls their sizes, what they are made of, what they can do.

A field's default is what transformers 5 takes when config.json does not have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from ..tasks.task import HeadName


class Family(NamedTuple):
    """One family of models.

    `fields`: our name -> (the family's name in config.json, its default); no decoder among them: an
    encoder-only family. `positions`: learned tables, sinusoidal ones (parameters that are never trained), or
    relative biases. `spare_positions`: rows of the table that no position uses; `config_counts_spare`: are
    they part of max_position_embeddings? `embedding_norm`, `final_norm`: norms before and after the layers of
    a stack. `num_labels`: classes of a classification head when config.json names none. `takes_layers_of`:
    other families whose layers have a place in its own; `taken_config`: what config.json says then beside the sizes.
    `scratch`: what the config of a model from an `architecture` says beside its sizes (None: there are none from
    scratch); `dropout_field`; `scaled_init`: such a model takes weights of the standard deviation d_model**-0.5;
    `wordpiece`: its tokenizer may be one of word pieces, which do not give a text back as it was.
    `fp16_safe`: fp16 does not overflow in it; `convertible`: the run half can convert it to ctranslate2.

    Of the layout: `rms`: RMS norms, and no biases in norms and projections; `own_head_width`: a head's width is a field
    of its own, `d_kv`; `may_be_gated`: the feed-forward may have a gate; `one_embedding`: the stacks share theirs
    also where the head is untied; `split_vocabulary`: source and target may have a vocabulary each; `head_biases`:
    biases of an untied masked-LM head. Of texts: `languages`: how a model is told one; `line_break`: `<n>` stands for
    one; `opens_with`: the first token of a decoder, `opening_is_known`: transformers has a default for it.
    """

    fields: Mapping[str, tuple[str, int | None]]
    heads: tuple[HeadName, ...]
    positions: Literal["learned", "sinusoidal", "relative"] = "learned"
    spare_positions: int = 0
    config_counts_spare: bool = False
    embedding_norm: bool = False
    final_norm: bool = False
    num_labels: int = 2
    takes_layers_of: tuple[str, ...] = ()
    taken_config: Mapping[str, Any] = {}
    scratch: Mapping[str, Any] | None = None
    dropout_field: str = "dropout"
    scaled_init: bool = False
    wordpiece: bool = False
    fp16_safe: bool = True
    convertible: bool = False
    rms: bool = False
    own_head_width: bool = False
    may_be_gated: bool = False
    one_embedding: bool = False
    split_vocabulary: bool = False
    head_biases: int = 2
    languages: Literal["none", "codes", "tokens"] = "none"
    line_break: bool = False
    opens_with: Literal["pad", "eos", "language"] = "pad"
    opening_is_known: bool = True

    @property
    def encoder_only(self) -> bool:
        """Has it no decoder?"""
        return "decoder_layers" not in self.fields


_BART = {
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
_T5 = {
    "encoder_layers": ("num_layers", 6),
    "decoder_layers": ("num_decoder_layers", None),  # as many as the encoder's
    "d_model": ("d_model", 512),
    "encoder_heads": ("num_heads", 8),
    "decoder_heads": ("num_heads", 8),
    "encoder_ffn_dim": ("d_ff", 2048),
    "decoder_ffn_dim": ("d_ff", 2048),
    "vocab_size": ("vocab_size", 32128),
}
_BERT = {
    "encoder_layers": ("num_hidden_layers", 12),
    "d_model": ("hidden_size", 768),
    "encoder_heads": ("num_attention_heads", 12),
    "encoder_ffn_dim": ("intermediate_size", 3072),
    "vocab_size": ("vocab_size", 30522),
    "max_positions": ("max_position_embeddings", 512),
    "token_types": ("type_vocab_size", 2),
}
_DISTILBERT = {
    "encoder_layers": ("n_layers", 6),
    "d_model": ("dim", 768),
    "encoder_heads": ("n_heads", 12),
    "encoder_ffn_dim": ("hidden_dim", 3072),
    "vocab_size": ("vocab_size", 30522),
    "max_positions": ("max_position_embeddings", 512),
}
# Of models from scratch. Special tokens have the ids that a tokenizer trained here gives them:
# <pad> 0, </s> 1, <unk> 2, <s> 3.
_IDS = {"pad_token_id": 0, "eos_token_id": 1}
_BART_SCRATCH = {
    **_IDS, "bos_token_id": 3, "forced_eos_token_id": 1, "tie_word_embeddings": True, "attention_dropout": 0.0,
    "activation_dropout": 0.0,
}  # fmt: skip
# [PAD] 0, and neither beginnings nor ends.
_BERT_SCRATCH = {"pad_token_id": 0, "hidden_act": "gelu", "attention_probs_dropout_prob": 0.0}

OURS: Mapping[str, Family] = {
    "bart": Family(
        fields=_BART, heads=("lm", "classification"), spare_positions=2, embedding_norm=True, num_labels=3,
        convertible=True, opens_with="eos",
        scratch={**_BART_SCRATCH, "activation_function": "gelu", "scale_embedding": False},
    ),
    "bert": Family(
        fields=_BERT, heads=("masked-lm", "classification"), embedding_norm=True,
        scratch=_BERT_SCRATCH, dropout_field="hidden_dropout_prob", wordpiece=True,
    ),
    # Layers of BERT under other names; no token types and no pooler (arXiv 1910.01108, section 3).
    "distilbert": Family(
        fields=_DISTILBERT, heads=("masked-lm", "classification"), embedding_norm=True, takes_layers_of=("bert",),
        taken_config={"sinusoidal_pos_embds": False},  # its positions are then BERT's learned ones
        head_biases=1, wordpiece=True,
        scratch={
            "pad_token_id": 0, "activation": "gelu", "attention_dropout": 0.0, "seq_classif_dropout": 0.0,
            "sinusoidal_pos_embds": False,
        },
    ),
    "marian": Family(
        fields={**_BART, "vocab_size": ("vocab_size", 58101)}, heads=("lm",), positions="sinusoidal",
        convertible=True, split_vocabulary=True, languages="tokens",
        scratch={
            **_BART_SCRATCH, "activation_function": "swish", "scale_embedding": True,
            "share_encoder_decoder_embeddings": True,
        },
    ),
    "mbart": Family(
        fields=_BART, heads=("lm",), spare_positions=2, embedding_norm=True, final_norm=True, convertible=True,
        languages="codes", opens_with="language",
    ),
    # Normalised before each layer, a deep small model takes weights of the classical width, and learns to copy names
    # soon; with the 0.02 of pre-training at width 1024 it does so late or never. The families that normalise after
    # each layer (BART, Marian) learn slower with it and keep their own 0.02.
    "pegasus": Family(
        fields=_BART, heads=("lm",), positions="sinusoidal", final_norm=True, fp16_safe=False, convertible=True,
        line_break=True, scratch={**_BART_SCRATCH, "activation_function": "relu", "scale_embedding": True},
        scaled_init=True,
    ),
    # Positions are counted from pad_token_id + 1 on, so the rows before it are spare: 514 rows, 512 positions.
    "roberta": Family(
        fields={**_BERT, "vocab_size": ("vocab_size", 50265)}, heads=("masked-lm", "classification"),
        spare_positions=2, config_counts_spare=True, embedding_norm=True,
        scratch={**_BERT_SCRATCH, **_IDS, "bos_token_id": 3}, dropout_field="hidden_dropout_prob",
    ),
    "t5": Family(
        fields=_T5, heads=("lm",), positions="relative", final_norm=True, fp16_safe=False, convertible=True,
        rms=True, own_head_width=True, may_be_gated=True, one_embedding=True, opening_is_known=False,
        scratch={**_IDS, "tie_word_embeddings": True, "feed_forward_proj": "relu"}, dropout_field="dropout_rate",
    ),
}  # fmt: skip

# Older names of config fields, read where the field itself is not there.
ALIASES: Mapping[str, str] = {
    "encoder_layers": "num_hidden_layers",
    "num_layers": "num_hidden_layers",
    "n_layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "dim": "hidden_size",
    "encoder_attention_heads": "num_attention_heads",
    "num_heads": "num_attention_heads",
    "n_heads": "num_attention_heads",
    "d_kv": "head_dim",
}
