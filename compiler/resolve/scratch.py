"""The transformers config of a model from scratch."""

from __future__ import annotations

from typing import Any

from ..diagnostics.diagnostic import Reporter, listed
from ..extensions.families import FAMILIES
from ..extensions.installed import installed
from ..spec import experiment
from ..tasks.task import HEADS
from .model_config import ArchitectureError, architecture_of
from .reference import TO_WRITE, ResolvedModel, Use, model_settings


def scratch_config(architecture: experiment.Architecture, vocab_size: int) -> dict[str, Any]:
    """The arguments of the family's transformers config for a model from scratch.

    Raises `ArchitectureError`: E503 unknown family; E551-E554 one of a package that cannot be used; E504 a
    family that is not built from scratch; E202 `decoder_layers` is missing; E533 it is given to a family without a
    decoder; E505 widths that do not go together.
    """
    name = architecture.family
    if (problem := installed().problem("families", name)) is not None:
        raise ArchitectureError(problem.code, problem.message, problem.hint)
    if name not in FAMILIES:
        raise ArchitectureError("E503", f"there is no family {name!r}", f"from scratch: {listed(from_scratch())}")
    family = FAMILIES[name]
    if family.scratch is None:
        raise ArchitectureError(
            "E504",
            f"{name} cannot be built from scratch: it needs the tokenizer that its checkpoints have",
            f"choose {listed(from_scratch())}, or name an existing {name} model",
        )
    if family.encoder_only != (architecture.decoder_layers is None):
        if family.encoder_only:
            raise ArchitectureError("E533", f"a {name} model has no decoder", "remove it", "decoder_layers")
        message = "the key `decoder_layers` is missing in `teacher.architecture`"
        raise ArchitectureError("E202", message, "for example `decoder_layers: 6`", key=None)
    if architecture.d_model % architecture.heads:
        raise ArchitectureError(
            "E505",
            f"d_model {architecture.d_model} is not divisible by {architecture.heads} heads",
            "d_model must be a multiple of heads",
            "heads",
        )
    if family.positions == "sinusoidal" and architecture.d_model % 2:
        raise ArchitectureError(
            "E505",
            f"d_model {architecture.d_model} is odd; sinusoidal positions of {name} need an even width",
            f"choose {architecture.d_model + 1}",
            "d_model",
        )
    spare = 0
    if family.config_counts_spare:
        spare = family.scratch.get("pad_token_id", family.spare_positions - 1) + 1
    sizes = {
        "encoder_layers": architecture.encoder_layers,
        "decoder_layers": architecture.decoder_layers,
        "d_model": architecture.d_model,
        "encoder_heads": architecture.heads,
        "decoder_heads": architecture.heads,
        "encoder_ffn_dim": architecture.ffn_dim,
        "decoder_ffn_dim": architecture.ffn_dim,
        "vocab_size": vocab_size,
        "max_positions": architecture.max_positions + spare,
    }
    config: dict[str, Any] = {field: sizes[name] for name, (field, _) in family.fields.items() if name in sizes}
    config |= {**family.scratch, family.dropout_field: architecture.dropout}
    if family.own_head_width:
        config["d_kv"] = architecture.d_model // architecture.heads
    if family.split_vocabulary:
        config["decoder_vocab_size"] = vocab_size
    if family.scaled_init:
        config["init_std"] = architecture.d_model**-0.5
    if not family.encoder_only:
        config["decoder_start_token_id"] = config[f"{family.opens_with}_token_id"]
    return config


def from_scratch() -> list[str]:
    """The families that are built from an `architecture`."""
    return [name for name, family in FAMILIES.items() if family.scratch is not None]


def resolve_scratch(teacher: experiment.Teacher, reporter: Reporter, use: Use = TO_WRITE) -> ResolvedModel | None:
    """A teacher from scratch. Reports E202, E503-E506, E531, E533; None: it did."""
    architecture, tokenizer = teacher.architecture, teacher.tokenizer
    assert architecture is not None and tokenizer is not None
    try:
        config = scratch_config(architecture, tokenizer.vocab_size)
        found = architecture_of({"model_type": architecture.family, **config}, use.task, use.num_labels)
    except ArchitectureError as error:
        because = [("task",)] if error.code == "E531" else []
        path = ("teacher", "architecture", *([error.key] if error.key else []))
        reporter.error(error.code, path, error.message, error.hint, because=because)
        return None
    if HEADS[found.head].classes and use.num_labels is None:
        reporter.error(
            "E202",
            ("data",),
            "the key `labels` is missing in `data`: a model from scratch knows no classes",
            "for example `labels: [negative, positive]`, in the order of its outputs",
            at="key",
            because=[("task",), ("teacher", "architecture")],
        )
        return None
    if tokenizer.kind == "wordpiece" and not FAMILIES[found.family].wordpiece:
        reporter.error(
            "E506",
            ("teacher", "tokenizer", "kind"),
            f"a {found.family} model has no tokenizer of word pieces",
            "write `kind: bpe` or `kind: unigram`; word pieces are for "
            + listed([name for name, family in FAMILIES.items() if family.wordpiece], "and"),
            because=[("teacher", "architecture", "family")],
        )
        return None
    settings = model_settings("architecture", found, config=config, seed=teacher.seed)
    return ResolvedModel(f"{found.family} {found.size} from scratch", found, settings, {}, config)
