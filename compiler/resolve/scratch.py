"""The transformers config of a model from scratch."""

from __future__ import annotations

from typing import Any

from ..diagnostics.diagnostic import Reporter, listed
from ..extensions.families import FAMILIES, layout_of
from ..extensions.installed import installed
from ..spec import experiment
from .model_config import ArchitectureError, architecture_of
from .reference import WRITING, ResolvedModel, Use, model_settings


def scratch_config(architecture: experiment.Architecture, vocab_size: int) -> dict[str, Any]:
    """The arguments of the family's transformers config for a model from scratch.

    Token ids are those of a tokenizer that is trained here: <pad> 0, </s> 1, <unk> 2, <s> 3.

    Raises `ArchitectureError`: E503 unknown family; E551-E554 one of a package that cannot be used; E504 a
    family that is not built from scratch; E505 widths that do not go together.
    """
    family, layout = architecture.family, layout_of(architecture.family)
    if (problem := installed().problem("families", family)) is not None:
        raise ArchitectureError(problem.code, problem.message, problem.hint)
    if family not in FAMILIES:
        raise ArchitectureError("E503", f"there is no family {family!r}", f"from scratch: {listed(from_scratch())}")
    if not FAMILIES[family].scratch:
        raise ArchitectureError(
            "E504",
            f"{family} is not built from scratch: it needs the tokenizer that its checkpoints have",
            f"choose {listed(from_scratch())}, or name an existing {family} model",
        )
    if architecture.d_model % architecture.heads:
        raise ArchitectureError(
            "E505",
            f"d_model {architecture.d_model} does not divide into {architecture.heads} heads",
            "d_model must be a multiple of heads",
        )
    if FAMILIES[family].positions == "sinusoidal" and architecture.d_model % 2:
        raise ArchitectureError(
            "E505",
            f"d_model {architecture.d_model} is odd; sinusoidal positions of {family} need an even width",
            f"choose {architecture.d_model + 1}",
        )
    if layout == "t5":
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
        "activation_function": {"bart": "gelu", "marian": "swish", "pegasus": "relu"}[layout],
        "dropout": architecture.dropout,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "scale_embedding": layout != "bart",
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 3,
        "decoder_start_token_id": 1 if layout == "bart" else 0,
        "forced_eos_token_id": 1,
    }
    if layout == "pegasus":
        # Normalised before each layer, a deep small model takes weights of the classical width, and learns to
        # copy names soon; with the 0.02 of pre-training at width 1024 it does so late or never. The families
        # that normalise after each layer (BART, Marian) learn slower with it and keep their own 0.02.
        config["init_std"] = architecture.d_model**-0.5
    if layout == "marian":
        config |= {"decoder_vocab_size": vocab_size, "share_encoder_decoder_embeddings": True}
    return config


def from_scratch() -> list[str]:
    """The families that are built from an `architecture`."""
    return [name for name, family in FAMILIES.items() if family.scratch]


def resolve_scratch(teacher: experiment.Teacher, reporter: Reporter, use: Use = WRITING) -> ResolvedModel | None:
    """A teacher from scratch. Reports E503-E505, E531; None: it did."""
    architecture, tokenizer = teacher.architecture, teacher.tokenizer
    assert architecture is not None and tokenizer is not None
    try:
        config = scratch_config(architecture, tokenizer.vocab_size)
        found = architecture_of({"model_type": architecture.family, **config}, use.task, use.num_labels)
    except ArchitectureError as error:
        field = "family"
        if error.code == "E505":
            field = "heads" if architecture.d_model % architecture.heads else "d_model"
        because = [("task",)] if error.code == "E531" else []
        path = ("teacher", "architecture", field)
        reporter.error(error.code, path, error.message, error.hint, because=because)
        return None
    settings = model_settings("architecture", found, config=config, seed=teacher.seed)
    return ResolvedModel(f"{found.family} {found.size} from scratch", found, settings, {}, config)
