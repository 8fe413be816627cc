"""The two halves of a forward pass, and what layers give on the way.

Encoder and decoder are run apart, so that one encoder can serve two decoders and the vocabulary projection can
be left to those who need it for some positions only. Layer outputs are taken by hooks on the layers themselves:
the tuple `hidden_states` of transformers opens with the embeddings, and its last entry is normalised once more
in some families (domain facts 2.3, 11.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..protocol import Stack
from .families import layers, stack_of


@dataclass
class Taken:
    """What was taken of one stack: `inputs[k]` and `outputs[k]` of layer k, (B, S, d), for the layers that were
    asked for; attention maps of all layers, (B, heads, queries, keys)."""

    inputs: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)
    self_attention: tuple[Tensor, ...] = ()
    cross_attention: tuple[Tensor, ...] = ()


def encode(model: Any, input_ids: Tensor, attention_mask: Tensor, attentions: Taken | None = None) -> Tensor:
    """The encoder's states (B, S, d) after its final norm. input_ids, attention_mask (B, S) int64."""
    encoder: Any = stack_of(model, "encoder")
    asked = {"output_attentions": True} if attentions is not None else {}
    output = encoder(input_ids=input_ids, attention_mask=_attended(attention_mask), **asked)
    if attentions is not None:
        attentions.self_attention = tuple(output.attentions)
    states: Tensor = output.last_hidden_state
    return states


def decoder_inputs(model: Any, labels: Tensor) -> Tensor:
    """What the decoder reads to predict the labels, both (B, T) int64: they, moved to the right by the family's start.

    A row without labels gets one here. mBART moves a row's last token to its front, and looks for it; what is read
    where nothing is predicted counts nowhere."""
    none = (labels == -100).all(dim=1)  # (B,)
    some_token = int(model.config.pad_token_id == 0)
    labels = torch.cat([labels[:, :1].masked_fill(none[:, None], some_token), labels[:, 1:]], dim=1)
    moved: Tensor = model.prepare_decoder_input_ids_from_labels(labels=labels)
    return moved


def _attended(attention_mask: Tensor) -> Tensor:
    """A row without tokens (`collate`) attends to its padding: a softmax over nothing is no number."""
    return attention_mask | (attention_mask == 0).all(dim=1, keepdim=True)


def decode(
    model: Any,
    decoder_input_ids: Tensor,
    encoder_states: Tensor,
    attention_mask: Tensor,
    attentions: Taken | None = None,
) -> Tensor:
    """The decoder's states (B, T, d) after its final norm, before the vocabulary projection. decoder_input_ids
    (B, T) int64; encoder_states (B, S, d); attention_mask (B, S), of the source.

    No mask is given for the decoder's own input: padding stands at the end, where causal attention never sees
    it, and a mask made of the padding token would hide the start token of T5, Pegasus and Marian.
    """
    decoder: Any = stack_of(model, "decoder")
    asked = {"output_attentions": True} if attentions is not None else {}
    output = decoder(
        input_ids=decoder_input_ids,
        encoder_hidden_states=encoder_states,
        encoder_attention_mask=_attended(attention_mask),
        use_cache=False,
        **asked,
    )
    if attentions is not None:
        attentions.self_attention = tuple(output.attentions)
        attentions.cross_attention = tuple(output.cross_attentions)
    states: Tensor = output.last_hidden_state
    return states


def label_logits(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Logits (B, T, V) for the labels of a batch, by the model as it is."""
    logits: Tensor = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        decoder_input_ids=decoder_inputs(model, batch["labels"]),
        use_cache=False,
    ).logits
    return logits


@contextmanager
def taking(model: nn.Module, stack: Stack, inputs: Sequence[int] = (), outputs: Sequence[int] = ()) -> Iterator[Taken]:
    """Within it, every pass through the stack leaves the inputs and outputs of these layers in `Taken`."""
    taken = Taken()
    handles = []
    for index in sorted({*inputs, *outputs}):
        layer = layers(model, stack)[index]
        if index in inputs:
            handles.append(layer.register_forward_pre_hook(_keeper(taken.inputs, index), with_kwargs=True))
        if index in outputs:
            handles.append(layer.register_forward_hook(_output_keeper(taken.outputs, index)))
    try:
        yield taken
    finally:
        for handle in handles:
            handle.remove()


def _keeper(kept: dict[int, Tensor], index: int) -> Any:
    def keep(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        kept[index] = arguments[0] if arguments else named["hidden_states"]

    return keep


def _output_keeper(kept: dict[int, Tensor], index: int) -> Any:
    def keep(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        kept[index] = output if isinstance(output, Tensor) else output[0]

    return keep


def use_eager_attention(*models: Any) -> None:
    """Attention maps exist in the plain implementation alone: the fused one returns empty tuples, without a
    word (domain facts 11.3)."""
    for model in models:
        model.set_attn_implementation("eager")


def equal_parts(one: nn.Module, other: nn.Module, stack: Stack) -> bool:
    """Do two models hold the same numbers in a stack, embeddings and norms included?"""
    ours, theirs = (dict(stack_of(model, stack).state_dict()) for model in (one, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
