"""The names that other tools give to settings, and what to type here.

Names of transformers' `Trainer` and its example scripts, of the DistilBERT scripts, of Lightning, DeepSpeed
and of this language's values. Only a spec is helped by them; a name that is known where it stands never gets here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any

from ..diagnostics.diagnostic import Trail, dotted
from .file_kinds import FILE_KINDS, unpacked
from .structure import Schema
from .yaml_text import flow

# Name -> the path here. A value that fits goes along.
SETTINGS = {
    "batch_size": "batch.examples",
    "train_batch_size": "batch.examples",
    "epochs": "stopping.max_epochs",
    "num_epochs": "stopping.max_epochs",
    "n_epochs": "stopping.max_epochs",
    "num_train_epochs": "stopping.max_epochs",
    "max_epochs": "stopping.max_epochs",
    "max_steps": "stopping.max_steps",
    "max_train_steps": "stopping.max_steps",
    "patience": "stopping.patience",
    "early_stopping_patience": "stopping.patience",
    "lr": "training.learning_rate",
    "lr_scheduler": "training.schedule",
    "lr_scheduler_type": "training.schedule",
    "warmup_steps": "training.warmup.steps",
    "num_warmup_steps": "training.warmup.steps",
    "warmup_ratio": "training.warmup.ratio",
    "weight_decay": "training.optimizer.weight_decay",
    "adam_epsilon": "training.optimizer.eps",
    "max_grad_norm": "training.gradient_clipping",
    "gradient_clip_val": "training.gradient_clipping",
    "label_smoothing": "loss.labels.smoothing",
    "label_smoothing_factor": "loss.labels.smoothing",
    "temperature": "loss.logits.temperature",
    "alpha_ce": "loss.logits.weight",
    "alpha_mlm": "loss.labels.weight",
    "alpha_clm": "loss.labels.weight",
    "alpha_hid": "loss.hidden.decoder",
    "alpha_cos": "loss.cosine",
    "max_source_length": "data.max_source_tokens",
    "max_input_length": "data.max_source_tokens",
    "max_target_length": "data.max_target_tokens",
    "num_beams": "evaluation.generation.beams",
    "eval_beams": "evaluation.generation.beams",
    "no_repeat_ngram_size": "evaluation.generation.no_repeat_ngram",
    "student_encoder_layers": "student.encoder_layers",
    "student_decoder_layers": "student.decoder_layers",
    "seed": "seeds",
    "random_seed": "seeds",
}
PRECISIONS = {"fp16": "fp16", "bf16": "bf16"}
PARTS = {"freeze_encoder": "encoder", "freeze_embeds": "embeddings"}
# What no setting does.
WITHOUT = {
    "gradient_accumulation_steps": "remove it: micro-batches are derived; `batch` is what one optimizer step takes, "
    "over all devices",
    "per_device_train_batch_size": "write `batch: {examples: 64}` at the top level: what one optimizer step "
    "takes, over all devices; micro-batches are derived",
    "per_device_eval_batch_size": "remove it: micro-batches are derived",
    "eval_batch_size": "remove it: micro-batches are derived",
    "output_dir": "remove it: the folder of results is set by `--workspace DIR`",
    "num_gpus": "remove it: devices are set by `--devices N`, or by a site file",
    "n_gpu": "remove it: devices are set by `--devices N`, or by a site file",
    "gpus": "remove it: devices are set by `--devices N`, or by a site file",
    "resume_from_checkpoint": "remove it: the same `distilc run` command resumes the run",
}
# Words for values.
VALUES = {
    "gpu": "cuda",
    "nvidia": "cuda",
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
    "float32": "fp32",
    "adam": "adamw",
    "kl": "forward-kl",
    "mlm": "masked-lm",
    "inverse_sqrt": "inverse-sqrt",
}


# What names a model elsewhere, or looks as if it did.
OF_MODELS = (
    "model", "name", "model_name", "model_name_or_path", "pretrained_model_name_or_path", "pretrained", "checkpoint",
    "repo", "repo_id", "repository", "id", "hf", "huggingface", "folder", "dir", "directory",
)  # fmt: skip


def is_location(value: str) -> bool:
    """Does it begin as no name of the hub does?"""
    return value.startswith(("./", "../", "/", "~", "${"))


def name_of_a_model(key: str, mapping: Mapping[str, Any], fragment: Mapping[str, Any]) -> str:
    """The hint for a key of a model (`fragment`: its structure) whose value names the model; "" for any other place or
    key, and where the model is named already."""
    either, value = fragment.get("x-either", ()), mapping[key]
    choices = fragment.get("properties", {}).get(key, {}).get("enum", ())
    if not {"hub", "path"} <= {*either} or key not in OF_MODELS or not isinstance(value, str) or not value:
        return ""
    if value in choices or any(kind in mapping for kind in either):
        return ""
    place = is_location(value) or key in ("folder", "dir", "directory")
    return f"a model is named by `{'path' if place else 'hub'}`: write `{flow({'path' if place else 'hub': value})}`"


# What names a data set elsewhere, or looks as if it did.
OF_DATA = (
    "path", "paths", "filename", "train_file", "validation_file", "test_file", "json", "csv", "dataset", "dataset_name",
    "name", "repo", "repo_id", "repository",
)  # fmt: skip


def name_of_data(key: str, value: Any, fragment: Mapping[str, Any]) -> str:
    """The hint for a key of a data source (`fragment`: its structure) whose value names files or a data set; "" for any
    other place or key. (What the source names already may come from the spec that is extended.)"""
    names = value if isinstance(value, list) else [value]
    if not {"hub", "files"} <= {*fragment.get("x-either", ())} or key not in OF_DATA or not names:
        return ""
    if not all(isinstance(name, str) and name for name in names):
        return ""
    if isinstance(value, list) or is_location(value) or PurePath(unpacked(value)).suffix.lower() in FILE_KINDS:
        return f"files of rows are named by `files`: write `{flow({'files': value})}`"
    return f"a data set of the hub is named by `hub`: write `{flow({'hub': value})}`"


# What other tools set beside the beams of a search, and `sampling` has here.
SAMPLING = ("temperature", "top_k", "top_p", "seed")


def of_sampling(name: str, mapping: Mapping[str, Any], path: Trail, known: Collection[str], schema: Schema) -> str:
    """The hint for the unknown key `name` of a mapping where it would say how tokens are drawn; "" for any other
    place or name. All that the mapping has of this kind stands in one `sampling`, so that it can be typed as it is."""
    if "sampling" not in known or name not in (*SAMPLING, "do_sample"):
        return ""
    if "validation" in path:
        return "remove it: validation does not sample; `evaluation.generation` has `sampling`"
    if name == "do_sample" and mapping[name] is False:
        return "remove it: without `sampling` texts are not sampled"
    drawn: dict[str, Any] = {}
    for key in SAMPLING:
        fragment = schema.at((*path, "sampling", key))
        if key in mapping and fragment is not None:
            drawn[key] = mapping[key] if schema.takes(fragment, mapping[key]) else schema.example(fragment)
    return f"here it is `sampling: {flow(drawn)}`"


def what_to_type(name: str, value: Any, path: Trail, known: Collection[str], schema: Schema) -> str:
    """The hint for the unknown key `name` in the mapping at `path`, whose known keys are `known`; "" when it is
    no name of another tool. `value` is what the key has; an example stands for one that does not fit."""
    if "stopping" not in schema.root.get("properties", {}):
        return ""  # a site
    if name in WITHOUT:
        return WITHOUT[name]
    if name in PRECISIONS:
        target, value = "precision", PRECISIONS[name] if value is not False else "fp32"
    elif name in PARTS:
        target, value = "student.freeze", [PARTS[name]] if value is not False else "auto"
    elif name in SETTINGS:
        target = SETTINGS[name]
        value = [value] if target == "seeds" else value
    else:
        return ""
    steps: Trail = tuple(target.split("."))
    base: Trail = ()
    if path[:2] == ("teacher", "train"):
        base = ("teacher",) if target == "seeds" else path[:2]
        steps = ("seed",) if target == "seeds" else steps
        value = value[0] if target == "seeds" else value
        if schema.at((*base, *steps)) is None:
            base = ()
    if steps[-1] in known:
        base, steps = path, steps[-1:]  # as in every mapping that says how text is generated
    elif (*base, *steps)[: len(path)] == path:
        base, steps = path, (*base, *steps)[len(path) :]
    fragment = schema.at((*base, *steps))
    if fragment is None or not steps:
        return ""
    shown = value if value is not None and schema.takes(fragment, value) else schema.example(fragment)
    for step in reversed(steps):
        shown = {step: shown}
    where = "" if base == path and path else f", in `{dotted(base)}`" if base else ", at the top level"
    assert isinstance(shown, Mapping)
    return f"here it is `{flow(shown).removeprefix('{').removesuffix('}')}`{where}"
