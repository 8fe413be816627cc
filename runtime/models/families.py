"""Where the parts of a model live, one table row a family.

In: a transformers model or its config. Out: the family's row, and from it the stacks, embeddings, positions, norms and
head of a model, the place of a parameter name, what a stack reads and what of it counts. Module paths and config fields
are those of transformers 5; the layer counts of two stacks never share one field, and the alias
`num_hidden_layers` (it means the encoder) is never used. Source: domain facts 11.1, 11.2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ..extensions import Registry
from ..failure import Failure
from ..protocol import Classifier, Converter, Family, Items, Names, Stack, TokenLayout

IGNORED = -100  # label of a position that does not count; of numbers that are predicted NaN

if TYPE_CHECKING:  # the rows are read by the driver as well, which goes without torch
    from torch import Tensor, nn

FAMILIES: Registry[Family] = Registry("families", Family)

_BART_STACKS: dict[Stack, str] = {"encoder": "model.encoder", "decoder": "model.decoder"}
_BART_DEPTHS: dict[Stack, str] = {"encoder": "encoder_layers", "decoder": "decoder_layers"}

# <pad>=0, </s>=1, <unk>=2, <s>=3, so that a model's config can be written before the tokenizer is there.
_SPECIAL = ("<pad>", "</s>", "<unk>", "<s>")
_NAMED = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
_ENDED = TokenLayout(special=_SPECIAL, named=_NAMED, single="$A </s>")


def _state_of_last_end(model: Any, states: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """BART: the decoder's state at the last end token of what it reads, through all of its head but the projection."""
    ends = (batch["input_ids"] == model.config.eos_token_id).long()  # (B, S)
    last = ends.shape[1] - 1 - ends.flip(1).argmax(dim=1)  # (B,)
    part = model.classification_head
    found: Tensor = part.dropout(part.dense(part.dropout(states[range(len(last)), last])).tanh())
    return found


# Registered in pyproject.toml, under their `model_type`.
BART = Family(
    model_type="bart", stacks=_BART_STACKS, layer_list="layers", depths=_BART_DEPTHS,
    shared="model.shared", embed_tokens="embed_tokens", positions="embed_positions", sinusoidal=False,
    embedding_norm="layernorm_embedding", final_norm=None, first_layer_only=(),
    head="lm_head", head_scale=None, decoder_start="eos",
    classifier=Classifier(linear="classification_head.out_proj", features=_state_of_last_end),
    layout=TokenLayout(
        special=_SPECIAL, named={**_NAMED, "bos_token": "<s>"}, single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>"
    ),
    converter=Converter(loader="Bart", normalize=(False, True)),
)  # fmt: skip
MBART = replace(
    BART, model_type="mbart", final_norm="layer_norm", decoder_start="language", layout=None,
    converter=Converter(loader="Bart", normalize=(True, True)),
)  # fmt: skip
PEGASUS = replace(
    BART, model_type="pegasus", sinusoidal=True, embedding_norm=None, final_norm="layer_norm", decoder_start="pad",
    classifier=None, layout=_ENDED, converter=Converter(loader="Bart", normalize=(True, False)),
)  # fmt: skip
MARIAN = replace(
    BART, model_type="marian", sinusoidal=True, embedding_norm=None, decoder_start="pad",
    classifier=None, layout=_ENDED, converter=Converter(loader="Bart", normalize=(False, False)),
)  # fmt: skip
T5 = Family(
    model_type="t5", stacks={"encoder": "encoder", "decoder": "decoder"}, layer_list="block",
    depths={"encoder": "num_layers", "decoder": "num_decoder_layers"},
    shared="shared", embed_tokens="embed_tokens", positions=None, sinusoidal=False,
    embedding_norm=None, final_norm="final_layer_norm",
    first_layer_only=("layer.0.SelfAttention.relative_attention_bias.weight",),
    head="lm_head", head_scale="scale_decoder_outputs", decoder_start="pad",
    layout=_ENDED, converter=Converter(loader="T5"),
)  # fmt: skip

# Encoders alone. A `stack` is the model without its head: embeddings, layers and, in BERT's, the pooler.
_ROBERTA_NAMED = {**_NAMED, "bos_token": "<s>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}


def _bert_pooled(model: Any, states: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    found: Tensor = model.dropout(model.bert.pooler(states))
    return found


def _roberta_pooled(model: Any, states: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    part = model.classifier
    found: Tensor = part.dropout(part.dense(part.dropout(states[:, 0])).tanh())
    return found


def _distilbert_pooled(model: Any, states: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    found: Tensor = model.dropout(model.pre_classifier(states[:, 0]).relu())
    return found


def _bert_transformed(model: Any, states: Tensor) -> Tensor:
    found: Tensor = model.cls.predictions.transform(states)
    return found


def _roberta_transformed(model: Any, states: Tensor) -> Tensor:
    from torch.nn.functional import gelu

    found: Tensor = model.lm_head.layer_norm(gelu(model.lm_head.dense(states)))
    return found


def _distilbert_transformed(model: Any, states: Tensor) -> Tensor:
    found: Tensor = model.vocab_layer_norm(model.activation(model.vocab_transform(states)))
    return found


_BERT_LAYOUT = TokenLayout(
    special=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    named={
        "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
    },
    single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
)  # fmt: skip
BERT = Family(
    model_type="bert", stacks={"encoder": "bert"}, layer_list="encoder.layer", depths={"encoder": "num_hidden_layers"},
    shared="bert.embeddings.word_embeddings", embed_tokens="embeddings.word_embeddings",
    positions="embeddings.position_embeddings", sinusoidal=False,
    embedding_norm="embeddings.LayerNorm", final_norm=None, first_layer_only=(),
    head="cls.predictions.decoder", head_scale=None, decoder_start=None, auto_class="AutoModelForMaskedLM",
    head_features=_bert_transformed, classifier=Classifier(linear="classifier", features=_bert_pooled),
    layout=_BERT_LAYOUT,
    unread=("bert.pooler.", "cls.seq_relationship."),  # of pre-training with next sentences
)  # fmt: skip
ROBERTA = replace(
    BERT, model_type="roberta", stacks={"encoder": "roberta"}, shared="roberta.embeddings.word_embeddings",
    spare_positions=True,
    head="lm_head.decoder", head_features=_roberta_transformed,
    classifier=Classifier(linear="classifier.out_proj", features=_roberta_pooled),
    layout=TokenLayout(
        special=(*_SPECIAL, "<mask>"), named=_ROBERTA_NAMED, single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>"
    ),
    unread=("roberta.pooler.",),
)  # fmt: skip
# BERT's names (arXiv 1910.01108 and its code); it has no token types and no pooler.
_OF_BERT = Names(
    layer={
        "attention.q_lin": "attention.self.query", "attention.k_lin": "attention.self.key",
        "attention.v_lin": "attention.self.value", "attention.out_lin": "attention.output.dense",
        "sa_layer_norm": "attention.output.LayerNorm", "ffn.lin1": "intermediate.dense", "ffn.lin2": "output.dense",
        "output_layer_norm": "output.LayerNorm",
    },
    outside={
        "distilbert.embeddings": "bert.embeddings", "vocab_transform": "cls.predictions.transform.dense",
        "vocab_layer_norm": "cls.predictions.transform.LayerNorm", "vocab_projector": "cls.predictions.decoder",
        "classifier": "classifier",
    },
    config={
        "activation": "hidden_act", "dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob", "initializer_range": "initializer_range",
        "pad_token_id": "pad_token_id",
    },
)  # fmt: skip
DISTILBERT = replace(
    BERT, model_type="distilbert", stacks={"encoder": "distilbert"}, layer_list="transformer.layer",
    depths={"encoder": "n_layers"}, shared="distilbert.embeddings.word_embeddings",
    head="vocab_projector", head_features=_distilbert_transformed,
    classifier=Classifier(linear="classifier", features=_distilbert_pooled), takes={"bert": _OF_BERT},
    layout=replace(_BERT_LAYOUT, pair="[CLS] $A [SEP] $B [SEP]"),  # it has no embeddings for token types
    unread=(),
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


def reads_labels(model: nn.Module, stack: Stack) -> bool:
    """Does a stack read the labels, moved to the right? Else what the first one reads: so does the decoder of a model
    that classifies."""
    family = family_of(model)
    return family.decoder_start is not None and stack == list(family.stacks)[-1] and not classifies(model)


def has_label(labels: Tensor) -> Tensor:
    """Where a label counts, bool of the shape of `labels`; numbers that are predicted are float."""
    return ~labels.isnan() if labels.is_floating_point() else labels != IGNORED


def counted(model: nn.Module, stack: Stack, batch: Mapping[str, Tensor]) -> Tensor:
    """The tokens of a stack's input that count, (B, S or T) bool: those that a label stands for, or all that are
    read."""
    return batch["labels"] != IGNORED if reads_labels(model, stack) else batch["attention_mask"].bool()


def items_of(model: nn.Module, stack: Stack) -> Items:
    """What `counted` counts."""
    return "label-tokens" if reads_labels(model, stack) else "source-tokens"


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


def num_positions(config: Any) -> int | None:
    """The most tokens of a sequence, by a model's config; None: there is no such limit."""
    rows: int | None = getattr(config, "max_position_embeddings", None)
    spare = family_of(config).spare_positions
    return rows if rows is None or not spare else rows - int(config.pad_token_id) - 1


def positions(model: nn.Module) -> list[nn.Module]:
    """The absolute position embeddings of all stacks; empty where the family has none."""
    family = family_of(model)
    if family.positions is None:
        return []
    return [model.get_submodule(f"{path}.{family.positions}") for path in family.stacks.values()]


def classifies(model: nn.Module) -> bool:
    """Has it the head over classes? Else that over the vocabulary."""
    classifier = family_of(model).classifier
    return classifier is not None and _submodule(model, classifier.linear) is not None


def head(model: nn.Module) -> nn.Module:
    """The projection to the vocabulary, or to classes."""
    family = family_of(model)
    if family.classifier is not None and classifies(model):
        return model.get_submodule(family.classifier.linear)
    return model.get_submodule(family.head)


def head_is_tied(model: nn.Module) -> bool:
    """Is the head's matrix one of the token embeddings? Decided by the parameters, not by the config:
    transformers 5 reports every T5 as tied."""
    weight: Any = head(model).weight
    return any(module.weight is weight for module in token_embeddings(model))


def head_scale(model: nn.Module) -> float:
    """The factor of the last states before the head: d_model ** -0.5 in a scaled T5, else 1."""
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


def name_in(family: Family, other: Family, place: Place | str) -> Place | str | None:
    """How a family calls what another, whose layers have a place in it, has at a place of its own, or under a parameter
    name outside of the layers. None: it has no such thing."""
    if family is other:
        return place
    names = family.takes[other.model_type]
    own, table = (place.name, names.layer) if isinstance(place, Place) else (place, names.outside)
    for ours, theirs in table.items():
        if own.startswith(f"{ours}."):
            found = theirs + own.removeprefix(ours)
            return place._replace(name=found) if isinstance(place, Place) else found
    return None


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
