"""config.json -> the shape of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..diagnostics.diagnostic import listed, quoted, shown_path
from ..diagnostics.regular_file import irregular, open_regular
from ..extensions.builtin_families import ALIASES, Family
from ..extensions.families import FAMILIES, families_for, tasks_of
from ..extensions.installed import installed
from ..tasks.task import HEADS, TASKS, WRITING
from .architecture import Architecture

MOST_LAYERS, MOST = 1000, 10**9  # more is no model, and its maps of layers would not fit into memory


class ArchitectureError(ValueError):
    """A config.json, or an `architecture`, that gives no model of ours. `code` is the diagnostic's, `key` the key of
    `architecture` that it is about (None: the whole of it)."""

    def __init__(self, code: str, message: str, hint: str, key: str | None = "family") -> None:
        super().__init__(message)
        self.key = key
        self.code = code
        self.message = message
        self.hint = hint


def read_config(folder: Path, name: str | None = None) -> dict[str, Any]:
    """The config.json of a model folder. `name`: what messages call the folder.

    Raises `ArchitectureError` E502 when it is missing, cut short or no JSON object, or when something in the folder
    is no file: whoever reads the folder next would wait for it.
    """
    file = folder / "config.json"
    hint = "a model folder has config.json, the weights and the tokenizer's files; download it again"
    shown = name or shown_path(folder)
    try:
        if (strange := irregular(folder)) is not None:
            message = f"{shown} is not a model folder: {strange.name} is a pipe, a device or a socket"
            raise ArchitectureError("E502", message, "remove it from the folder, or name another folder")
        with open_regular(file) as stream:
            config = json.loads(stream.read().decode("utf-8"))
    except ArchitectureError:
        raise
    except OSError as error:
        message = f"{shown} is not a model folder: config.json: {error.strerror}"
        raise ArchitectureError("E502", message, hint) from error
    except (ValueError, RecursionError) as error:
        raise ArchitectureError("E502", f"{shown_path(file)} is damaged: {error}", hint) from error
    if not isinstance(config, dict):
        raise ArchitectureError("E502", f"{shown_path(file)} is damaged: it is not a mapping", hint)
    return config


def architecture_of(config: Mapping[str, Any], task: str = WRITING[0], num_labels: int | None = None) -> Architecture:
    """The facts of a parsed config.json, of the model that a task builds from it.

    The task decides the head, whatever class the file was saved from. `num_labels`: classes of a
    classification head; None: as many as the config names. A file with both `encoder_layers` and the older
    `num_hidden_layers` means the former: that is what the weights were saved with. transformers 5 reads the
    latter, so the runtime drops it before it loads.

    Raises `ArchitectureError`: E503 a family that is not supported; E551-E554 one of a package that cannot be
    used; E531 one that cannot do the task; E502 a
    field of the wrong kind.
    """
    name = config.get("model_type")
    if isinstance(name, str) and (problem := installed().problem("families", name)) is not None:
        raise ArchitectureError(problem.code, problem.message, problem.hint)
    if not isinstance(name, str) or name not in FAMILIES:
        raise ArchitectureError(
            "E503",
            f"the family {quoted(name)} is not supported" if name else "config.json has no model_type",
            f"the families are {listed(FAMILIES, 'and')}",
        )
    family, head = FAMILIES[name], TASKS[task].head
    if head not in family.heads:
        raise ArchitectureError(
            "E531",
            f"the family {name} does not support the task {task}",
            f"families for {task}: {listed(families_for(head), 'and')}; "
            f"tasks of {name}: {listed(tasks_of(name), 'and')}",
        )
    values = _sizes(config, family)
    shared = config.get("share_encoder_decoder_embeddings", True) is not False or not family.split_vocabulary
    tied = config.get("tie_word_embeddings", True) is not False
    if family.one_embedding:
        # The old flag of an untied T5 (v1.1, Flan) is saved as scale_decoder_outputs by transformers 5.
        tied = tied and config.get("scale_decoder_outputs", True) is not False
    own_field = family.fields["encoder_layers"][0]
    legacy = None if own_field == "num_hidden_layers" else _whole(config, "num_hidden_layers", None)
    return Architecture(
        family=name,
        head=head,
        num_labels=(num_labels or labels_of(config)) if HEADS[head].classes else 0,
        **values,
        decoder_vocab_size=values["vocab_size"]
        if shared
        else _whole(config, "decoder_vocab_size", values["vocab_size"]),
        head_dim=_whole(config, "d_kv", 64) if family.own_head_width else values["d_model"] // values["encoder_heads"],
        gated=family.may_be_gated and str(config.get("feed_forward_proj", "relu")).startswith("gated-"),
        relative_buckets=_whole(config, "relative_attention_num_buckets", 32) if family.positions == "relative" else 0,
        tied=tied,
        shared=shared,
        legacy_layers=legacy,
    )


def labels_of(config: Mapping[str, Any]) -> int:
    """The number of classes that a config.json names, as transformers counts: `num_labels`, else the entries
    of `id2label`, else the family's default."""
    named = config.get("id2label")
    default = len(named) if isinstance(named, Mapping) and named else FAMILIES[config["model_type"]].num_labels
    return int(_whole(config, "num_labels", default))


def _sizes(config: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """Depths, widths and tables. What the family does not have is 0, a table of positions None."""
    absent = ("decoder_layers", "decoder_heads", "decoder_ffn_dim", "token_types")
    sizes: dict[str, Any] = {**dict.fromkeys(absent, 0), "max_positions": None}
    for name, (field, default) in family.fields.items():
        most = MOST_LAYERS if name in ("encoder_layers", "decoder_layers") else MOST
        sizes[name] = _whole(config, field, default, least=0 if name == "token_types" else 1, most=most)
    if sizes["decoder_layers"] is None:
        sizes["decoder_layers"] = config.get("num_layers") or 6  # the field's own value, not its alias's
    spare = family.spare_positions
    if family.config_counts_spare:
        spare = _whole(config, "pad_token_id", spare - 1, least=0) + 1
        if sizes["max_positions"] <= spare:
            raise ArchitectureError(
                "E502",
                f"config.json: max_position_embeddings is {sizes['max_positions']}, and the first {spare} "
                "positions are never used",
                "download the model again",
            )
        sizes["max_positions"] -= spare
    return {**sizes, "spare_positions": spare}


def _whole(config: Mapping[str, Any], field: str, default: int | None, least: int = 1, most: int = MOST) -> Any:
    value = config.get(field)
    if value is None and field in ALIASES:
        value = config.get(ALIASES[field])
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ArchitectureError(
            "E502",
            f"config.json: {field} is {quoted(value)}, not a whole number from {least} to {most}",
            "download the model again",
        )
    return value
