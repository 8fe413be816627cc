"""A model folder -> the model and the tokenizer in it, exactly as they were stored or not at all.

transformers fills what a checkpoint lacks with random weights and drops what it does not expect, with a
warning at most, and takes the data type from the file. Here the data type is always said, and depth,
missing and unexpected weights are checked. Nothing is fetched and no code of a model folder is run.
Source: domain facts 10, 11.1, 11.2, 11.4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..failure import Failure
from ..files.regular_file import open_regular
from ..protocol import Family
from .families import (
    aliases,
    count_parameters,
    depths,
    family_of,
    head,
    head_is_tied,
    place,
    positions,
)
from .weights import (
    PICKLE,
    holds_code,
    lacking,
    require_files,
    stored_integers,
    stored_shapes,
    stored_tensors,
    truncated,
    weight_files,
)

Precision = Literal["fp32", "bf16", "fp16"]
CLASSIFYING = "AutoModelForSequenceClassification"  # of transformers: its models have the head over classes
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Left in old checkpoints and without a meaning for the model that is built.
_HARMLESS = re.compile(r"(^|\.)(version|position_ids)\Z")


def model_folder(artifact: Path) -> Path:
    """The folder with the model's files: the artifact's own, or the one that its `reference.json` names.

    Raises `Failure` R224: the named folder is gone, or its files are no longer those that were referenced.
    """
    reference = artifact / "reference.json"
    if not reference.is_file():
        return artifact
    try:
        with open_regular(reference) as file:
            record = json.loads(file.read().decode("utf-8"))
        folder, files = Path(record["path"]), dict(record["files"])
    except (OSError, ValueError, RecursionError, TypeError, KeyError) as error:
        raise Failure("R223", f"{reference} says nowhere where the model is ({_first_line(error)})",
                      "remove its folder and run again, or name another model", spec_path="teacher") from error
    for name, size in files.items():
        if not (folder / name).is_file():
            raise Failure("R224", f"the model folder {folder} is gone, or lacks {name}",
                          "put it back, or name the model's new place in the spec", spec_path="teacher")
        if (folder / name).stat().st_size != size:
            raise Failure("R224", f"{folder / name} was changed since the teacher was looked at",
                          "compile the spec again", spec_path="teacher")
    return folder


def load_model(folder: Path, *, precision: Precision = "fp32") -> Any:
    """The model of a folder, on the CPU, in eval mode, with weights of the asked data type and the head that it was
    saved with: over classes (`has_classes`), else over the vocabulary.

    Sinusoidal positions are frozen (loading makes them trainable). Generation parameters of an old
    `config.json`, and those of its only task, are in `generation_config`.

    Raises `Failure` R221 (family), R222 (truncated), R223 (unreadable, or not finite), R225 (the weights are not those
    of the config: something would be random, or would be dropped).
    """
    config = read_config(folder)
    family = family_of(config)
    safe = weight_files(folder)[0].suffix == ".safetensors"
    with _readable(folder), quiet():
        model, report = _auto(family, config).from_pretrained(
            folder, config=config, dtype=DTYPES[precision], local_files_only=True, trust_remote_code=False,
            use_safetensors=safe, weights_only=True, output_loading_info=True,
        )
    _check_report(folder, family, report)
    _check_depths(folder, family, model)
    _check_finite(folder, model, precision)
    if family.sinusoidal:
        for module in positions(model):
            module.requires_grad_(False)
    _adopt_task_parameters(folder, model)
    return model


def load_with_new_head(folder: Path, num_labels: int | None, seed: int) -> Any:
    """The model of a folder, in fp32, with another head than it was saved with: over `num_labels` classes, or over the
    vocabulary, drawn with the seed as the family draws it. Equal seeds give equal ones.

    Raises as `load_model`: R225 where anything but the head would be random, or dropped."""
    import transformers

    config = read_config(folder)
    family = family_of(config)
    if num_labels is not None and config.num_labels != num_labels:
        config.num_labels = num_labels  # its names are those of other classes, and go
    safe = weight_files(folder)[0].suffix == ".safetensors"
    auto = getattr(transformers, family.auto_class if num_labels is None else CLASSIFYING)
    with _readable(folder), quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, report = auto.from_pretrained(
            folder, config=config, dtype=torch.float32, local_files_only=True, trust_remote_code=False,
            use_safetensors=safe, weights_only=True, output_loading_info=True, ignore_mismatched_sizes=True,
        )
    body = {path.split(".")[0] + "." for path in (*family.stacks.values(), family.shared)}

    def of_body(names: Any) -> set[str]:
        """Of the stacks and what they share; poolers belong to heads."""
        found = {name if isinstance(name, str) else name[0] for name in names}
        return {name for name in found if name.startswith(tuple(body)) and ".pooler." not in name}

    _check_report(folder, family, {name: of_body(report[name]) for name in ("missing_keys", "unexpected_keys")})
    if wrong := sorted(of_body(report["mismatched_keys"])):
        raise _mismatch(folder, f"{_some(wrong)} has another shape")
    _check_depths(folder, family, model)
    _check_finite(folder, model, "fp32")
    return model


def untie_head(model: Any) -> None:
    """A fresh matrix for the head, drawn as the family draws it; nothing happens where it has its own.

    transformers 5 ties every T5 it builds, also those whose checkpoints hold a separate head (T5 v1.1, Flan). Loading
    such weights into a tied model overwrites the shared embedding with the head (domain facts 11.2)."""
    if not head_is_tied(model):
        return
    module: Any = head(model)
    weight = nn.Parameter(torch.empty_like(module.weight))  # (V, d_model)
    config: Any = model.config
    std: Any = getattr(config, "init_std", None) or getattr(config, "initializer_factor", 1.0)
    with torch.no_grad():
        weight.normal_(0.0, std)
    module.weight = weight
    # A later tie_weights() of transformers' own (it runs on loading and resizing) must not undo it.
    model.all_tied_weights_keys.pop(f"{family_of(model).head}.weight", None)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder. Raises `Failure` R226: it cannot be read, or has no padding token."""
    from transformers import AutoTokenizer

    require_files(folder)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise Failure("R226", f"cannot load the tokenizer in {folder}: {_first_line(error)}",
                      "the folder needs the files that tokenizer.save_pretrained writes",
                      spec_path="teacher") from error
    if tokenizer.pad_token_id is None:
        raise Failure("R226", f"the tokenizer in {folder} has no padding token",
                      "set pad_token in its tokenizer_config.json", spec_path="teacher")
    return tokenizer


def read_config(folder: Path) -> Any:
    """The config of a folder, of its family's class.

    An alias beside the field that it stands for is dropped: `num_hidden_layers: 12` beside
    `encoder_layers: 3` would win, and nine layers would be random (domain facts 11.1).

    Raises `Failure` R221, R222, R223.
    """
    from transformers import CONFIG_MAPPING

    tree = _config_tree(folder)
    family = family_of(str(tree.get("model_type")))
    kind = CONFIG_MAPPING[family.model_type]
    for alias, field in kind.attribute_map.items():
        if field in tree:
            tree.pop(alias, None)
    with _readable(folder):
        return kind.from_dict(tree)


def has_classes(config: Any) -> bool:
    """Is the head of a model folder, by its config, one over classes? Else it is one over the vocabulary."""
    return any(str(name).endswith("ForSequenceClassification") for name in getattr(config, "architectures", None) or ())


def stored_parameters(folder: Path) -> int:
    """The number of parameters that loading the folder gives, without loading it.

    Raises as `load_model`: R225 also where a stored shape is not the config's.
    """
    config = read_config(folder)
    family = family_of(config)
    shapes = stored_shapes(folder)
    with _readable(folder), quiet(), torch.device("meta"):
        model = _auto(family, config).from_config(config, dtype=torch.float32, trust_remote_code=False)
        if _holds_own_head(folder, model, family, shapes):
            untie_head(model)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    integers = [name for name in stored_integers(folder) if name in expected]
    if integers:
        raise Failure("R223", f"the weights in {folder} are integers, or floats of 8 bits: {_some(integers)}",
                      "take the model as it was before it was quantized", spec_path="teacher")
    for name, shape in shapes.items():
        if name in expected and expected[name] != shape:
            raise _mismatch(folder, f"{name} has shape {list(shape)}, the config says {list(expected[name])}")
        if name not in expected and (found := place(family, name)) is not None:
            raise _mismatch(folder, f"they hold {found.stack} layer {found.layer}, the config has fewer")
    names: dict[int, list[str]] = {}
    for name, parameter in aliases(model):
        names.setdefault(id(parameter), []).append(name)
    lacking = [known[0] for known in names.values()
               if not any(name in shapes or _is_sinusoid(family, name) for name in known)]
    if lacking:
        raise _mismatch(folder, f"they lack {_some(lacking)}, which would be random")
    return count_parameters(model)


def _auto(family: Family, config: Any) -> Any:
    import transformers

    return getattr(transformers, CLASSIFYING if has_classes(config) else family.auto_class)


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its bars and warnings: what they warn of is checked here and raised."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _holds_own_head(folder: Path, model: Any, family: Family, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Is the stored head another than the embedding? transformers ties them unless the values differ."""
    own, shared = f"{family.head}.weight", f"{family.shared}.weight"
    if own not in shapes or shared not in shapes or not head_is_tied(model):
        return False
    tensors = stored_tensors(folder, (own, shared))
    return not torch.equal(tensors[own], tensors[shared])


def _check_report(folder: Path, family: Family, report: dict[str, Any]) -> None:
    missing = sorted(name for name in report["missing_keys"] if not _is_sinusoid(family, name))
    if missing:
        raise _mismatch(folder, f"they lack {_some(missing)}, which would be random")
    unexpected = sorted(name for name in report["unexpected_keys"]
                        if not (_HARMLESS.search(name) or _is_sinusoid(family, name)
                                or name.startswith(family.unread)))
    if unexpected:
        raise _mismatch(folder, f"they hold {_some(unexpected)}, for which it has no place")


def _is_sinusoid(family: Family, name: str) -> bool:
    """Sinusoidal positions are computed; whether a file holds them makes no difference."""
    return family.sinusoidal and f".{family.positions}.weight" in name


def _check_depths(folder: Path, family: Family, model: Any) -> None:
    built = depths(model)
    for stack in family.stacks:
        said = getattr(model.config, family.depths[stack])
        if built[stack] != said:
            raise _mismatch(folder, f"{built[stack]} {stack} layers were built, the config says {said}")


def _check_finite(folder: Path, model: Any, precision: str) -> None:
    wrong = [name for name, parameter in model.named_parameters() if not torch.isfinite(parameter).all()]
    if wrong:
        raise Failure("R223", f"the weights in {folder} are not all finite in {precision}: {_some(wrong)}",
                      "the training that saved them diverged, or the file is damaged: take another checkpoint",
                      spec_path="teacher")


def _adopt_task_parameters(folder: Path, model: Any) -> None:
    """Old checkpoints keep generation parameters by task, and nothing merges them any more. With one task
    there is no doubt about which are meant; what the config says outright has precedence."""
    tree = _config_tree(folder)
    tasks = tree.get("task_specific_params")
    if not model.can_generate() or (folder / "generation_config.json").is_file():
        return
    if not isinstance(tasks, dict) or len(tasks) != 1:
        return
    (parameters,) = tasks.values()
    unsaid = {name: value for name, value in parameters.items() if tree.get(name) is None}
    model.generation_config.update(**unsaid)


def _config_tree(folder: Path) -> dict[str, Any]:
    require_files(folder)
    try:
        tree = json.loads((folder / "config.json").read_text("utf-8"))
    except OSError as error:
        raise lacking(folder, "config.json is missing") from error
    except (ValueError, RecursionError) as error:
        raise truncated(folder, f"config.json is not JSON ({error})") from error
    if not isinstance(tree, dict):
        raise truncated(folder, "config.json is not a mapping")
    return tree


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (Failure, MemoryError):
        raise
    except Exception as error:
        if (unsafe := holds_code(folder / PICKLE, error)) is not None:
            raise unsafe from error
        raise Failure("R223", f"cannot load the model in {folder}: {_first_line(error)}",
                      "does plain from_pretrained load it?", spec_path="teacher") from error


def _mismatch(folder: Path, reason: str) -> Failure:
    return Failure("R225", f"the weights in {folder} are not those of its config.json: {reason}",
                   "mend config.json, or take a complete checkpoint", spec_path="teacher")


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{error.__class__.__name__}: {lines[0]}"
