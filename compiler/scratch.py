"""The transformers config of a model from scratch."""

from __future__ import annotations

from typing import Any

from . import experiment
from .architecture import FAMILIES, STATIC_POSITIONS, ArchitectureError, architecture_of
from .diagnostics import Reporter, listed
from .reference import ResolvedModel

FROM_SCRATCH = ("bart", "marian", "pegasus", "t5")


def scratch_config(architecture: experiment.Architecture, vocab_size: int) -> dict[str, Any]:
    """The arguments of the family's transformers config for a model from scratch.

    Token ids are those of a tokenizer that is trained here: <pad> 0, </s> 1, <unk> 2, <s> 3.

    Raises `ArchitectureError`: E503 unknown family; E504 a family that is not built from scratch; E505 widths
    that do not go together.
    """
    family = architecture.family
    if family not in FAMILIES:
        raise ArchitectureError(
            "E503", f"there is no family {family!r}", f"from scratch: {listed(FROM_SCRATCH)}"
        )
    if family not in FROM_SCRATCH:
        raise ArchitectureError(
            "E504",
            f"{family} is not built from scratch: it needs its own multilingual tokenizer",
            f"choose {listed(FROM_SCRATCH)}, or name an existing {family} model",
        )
    if architecture.d_model % architecture.heads:
        raise ArchitectureError(
            "E505",
            f"d_model {architecture.d_model} does not divide into {architecture.heads} heads",
            "d_model must be a multiple of heads",
        )
    if family in STATIC_POSITIONS and architecture.d_model % 2:
        raise ArchitectureError(
            "E505",
            f"d_model {architecture.d_model} is odd; sinusoidal positions of {family} need an even width",
            f"choose {architecture.d_model + 1}",
        )
    if family == "t5":
        return {
            "vocab_size": vocab_size,
            "d_model": architecture.d_model,
            "d_kv": architecture.d_model // architecture.heads,
            "d_ff": architecture.ffn_dim,
            "num_layers": architecture.encoder_layers,
            "num_decoder_layers": architecture.decoder_layers,
            "num_heads": architecture.heads,
            "dropout_rate": architecture.dropout,
            "feed_forward_proj": "relu",
            "tie_word_embeddings": True,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "decoder_start_token_id": 0,
        }
    config: dict[str, Any] = {
        "vocab_size": vocab_size,
        "d_model": architecture.d_model,
        "encoder_layers": architecture.encoder_layers,
        "decoder_layers": architecture.decoder_layers,
        "encoder_attention_heads": architecture.heads,
        "decoder_attention_heads": architecture.heads,
        "encoder_ffn_dim": architecture.ffn_dim,
        "decoder_ffn_dim": architecture.ffn_dim,
        "max_position_embeddings": architecture.max_positions,
        "activation_function": {"bart": "gelu", "marian": "swish", "pegasus": "relu"}[family],
        "dropout": architecture.dropout,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "scale_embedding": family != "bart",
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 3,
        "decoder_start_token_id": 1 if family == "bart" else 0,
        "forced_eos_token_id": 1,
    }
    if family == "pegasus":
        # Normalised before each layer, a deep small model takes weights of the classical width, and learns to
        # copy names soon; with the 0.02 of pre-training at width 1024 it does so late or never. The families
        # that normalise after each layer (BART, Marian) learn slower with it and keep their own 0.02.
        config["init_std"] = architecture.d_model**-0.5
    if family == "marian":
        config |= {"decoder_vocab_size": vocab_size, "share_encoder_decoder_embeddings": True}
    return config


def resolve_scratch(teacher: experiment.Teacher, reporter: Reporter) -> ResolvedModel | None:
    """A teacher from scratch. Reports E503-E505; None: it did."""
    architecture, tokenizer = teacher.architecture, teacher.tokenizer
    assert architecture is not None and tokenizer is not None
    try:
        config = scratch_config(architecture, tokenizer.vocab_size)
    except ArchitectureError as error:
        field = "family"
        if error.code == "E505":
            field = "heads" if architecture.d_model % architecture.heads else "d_model"
        reporter.error(error.code, ("teacher", "architecture", field), error.message, error.hint)
        return None
    found = architecture_of({"model_type": architecture.family, **config})
    settings = {
        "kind": "architecture",
        "family": architecture.family,
        "config": config,
        "seed": teacher.seed,
        "fingerprint": None,
        "repository": None,
        "revision": None,
        "parameters": found.parameters,
    }
    name = f"{architecture.family} {architecture.encoder_layers}-{architecture.decoder_layers} from scratch"
    return ResolvedModel(name, found, settings, {})
