"""Where the parts of a model live, one table row a family.

In: a transformers model or its config. Out: the family's row, and from it the stacks, embeddings,
positions, norms and head of a model, and the place of a parameter name. Module paths and config fields
are those of transformers 5; the layer counts of two stacks never share one field, and the alias
`num_hidden_layers` (it means the encoder) is never used. Source: domain facts 11.1, 11.2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ..extensions import Registry
from ..failure import Failure
from ..protocol import Family, Stack

if TYPE_CHECKING:  # the rows are read by the driver as well, which goes without torch
    from torch import nn

FAMILIES: Registry[Family] = Registry("families", Family)

_BART_STACKS: dict[Stack, str] = {"encoder": "model.encoder", "decoder": "model.decoder"}
_BART_DEPTHS: dict[Stack, str] = {"encoder": "encoder_layers", "decoder": "decoder_layers"}

# Registered in pyproject.toml, under their `model_type`.
BART = Family(
    model_type="bart", stacks=_BART_STACKS, layer_list="layers", depths=_BART_DEPTHS,
    shared="model.shared", embed_tokens="embed_tokens", positions="embed_positions", sinusoidal=False,
    embedding_norm="layernorm_embedding", final_norm=None, first_layer_only=(),
    head="lm_head", head_scale=None, decoder_start="eos",
)  # fmt: skip
MBART = replace(BART, model_type="mbart", final_norm="layer_norm", decoder_start="language")
PEGASUS = replace(
    BART, model_type="pegasus", sinusoidal=True, embedding_norm=None, final_norm="layer_norm", decoder_start="pad"
)
MARIAN = replace(BART, model_type="marian", sinusoidal=True, embedding_norm=None, decoder_start="pad")
T5 = Family(
    model_type="t5", stacks={"encoder": "encoder", "decoder": "decoder"}, layer_list="block",
    depths={"encoder": "num_layers", "decoder": "num_decoder_layers"},
    shared="shared", embed_tokens="embed_tokens", positions=None, sinusoidal=False,
    embedding_norm=None, final_norm="final_layer_norm",
    first_layer_only=("layer.0.SelfAttention.relative_attention_bias.weight",),
    head="lm_head", head_scale="scale_decoder_outputs", decoder_start="pad",
)  # fmt: skip


def family_of(model_or_config: Any) -> Family:
    """The row of a model, of its config, or of a `model_type`.

    Raises `Failure` R221: the family is not supported.
    """
    config = getattr(model_or_config, "config", model_or_config)
    model_type = config if isinstance(config, str) else getattr(config, "model_type", None)
    if model_type is None or model_type not in FAMILIES:
        raise Failure("R221", f"models of type {model_type!r} are not supported",
                      f"supported families: {', '.join(FAMILIES)}", spec_path="teacher")
    return FAMILIES[model_type]


def stack_of(model: nn.Module, stack: Stack) -> nn.Module:
    """The encoder or the decoder, embeddings and norms included."""
    return model.get_submodule(family_of(model).stacks[stack])


def stacks(model_or_config: Any) -> tuple[Stack, ...]:
    """The stacks of a model's family, from the input up: each but the first looks at the states of the one below."""
    return tuple(family_of(model_or_config).stacks)


def layers(model: nn.Module, stack: Stack) -> nn.ModuleList:
    """The layers of a stack, in order."""
    return cast("nn.ModuleList", stack_of(model, stack).get_submodule(family_of(model).layer_list))


def depths(model: nn.Module) -> dict[Stack, int]:
    """The number of layers that were really built, by stack."""
    return {stack: len(layers(model, stack)) for stack in stacks(model)}


def token_embeddings(model: nn.Module) -> list[nn.Module]:
    """`shared` and every `embed_tokens`, as far as there are such; usually one parameter under three names."""
    family = family_of(model)
    names = [family.shared, *(f"{path}.{family.embed_tokens}" for path in family.stacks.values())]
    return [module for name in names if (module := _submodule(model, name)) is not None]


def positions(model: nn.Module) -> list[nn.Module]:
    """The absolute position embeddings of all stacks; empty where the family has none."""
    family = family_of(model)
    if family.positions is None:
        return []
    return [model.get_submodule(f"{path}.{family.positions}") for path in family.stacks.values()]


def head(model: nn.Module) -> nn.Module:
    """The vocabulary projection."""
    return model.get_submodule(family_of(model).head)


def head_is_tied(model: nn.Module) -> bool:
    """Is the head's matrix one of the token embeddings? Decided by the parameters, not by the config:
    transformers 5 reports every T5 as tied."""
    weight = head(model).weight
    return any(module.weight is weight for module in token_embeddings(model))


def head_scale(model: nn.Module) -> float:
    """The factor of the decoder's output before the head: d_model ** -0.5 in a scaled T5, else 1."""
    family = family_of(model)
    config: Any = model.config
    if family.head_scale is None or not getattr(config, family.head_scale):
        return 1.0
    return 1.0 / math.sqrt(config.d_model)


class Place(NamedTuple):
    """Where a layer's parameter lives: `name` is its name inside layer `layer` of `stack`."""

    stack: Stack
    layer: int
    name: str


def place(family: Family, parameter: str) -> Place | None:
    """Stack, 0-based layer and inner name of a parameter; None for what is in no layer."""
    for stack in family.stacks:
        found = re.fullmatch(rf"{re.escape(_layer_prefix(family, stack))}(\d+)\.(.+)", parameter)
        if found:
            return Place(stack, int(found[1]), found[2])
    return None


def parameter_name(family: Family, place: Place) -> str:
    """The inverse of `place`."""
    return f"{_layer_prefix(family, place.stack)}{place.layer}.{place.name}"


def count_parameters(model: nn.Module) -> int:
    """Parameters, each shared one once, sinusoidal positions included, buffers not. Sharded ones whole."""
    return sum(num_elements(parameter) for parameter in model.parameters())


def num_elements(parameter: nn.Parameter) -> int:
    """Elements of a parameter, also of one that ZeRO-3 has partitioned (its local part is empty)."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def aliases(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Every name of every parameter, shared ones under each of their names."""
    return model.named_parameters(remove_duplicate=False)


def _layer_prefix(family: Family, stack: Stack) -> str:
    return f"{family.stacks[stack]}.{family.layer_list}."


def _submodule(model: nn.Module, name: str) -> nn.Module | None:
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None
