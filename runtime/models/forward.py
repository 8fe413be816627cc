"""A forward pass, stack by stack, and what layers give on the way.

Stacks are run apart, so that one encoder can serve two decoders and the vocabulary projection can be left to those
who need it for some positions only. Layer outputs are captured by hooks on the layers themselves:
the tuple `hidden_states` of transformers opens with the embeddings, and its last entry is normalised once more
in some families (domain facts 2.3, 11.3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..protocol import Stack
from .families import IGNORED, family_of, layers, reads_labels, stack_of, stacks


@dataclass
class Activations:
    """What was captured of one stack: `inputs[k]` and `outputs[k]` of layer k, (B, S, d), for the layers that were
    asked for; attention maps of all layers, (B, heads, queries, keys)."""

    inputs: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)
    self_attention: tuple[Tensor, ...] = ()
    cross_attention: tuple[Tensor, ...] = ()


def with_inputs(model: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A batch with what the stacks of this model read: where there are two, `decoder_input_ids` (B, S or T) int64.

    Those are the labels, moved to the right by the family's start; of a model that classifies, what the first stack
    reads, moved likewise. A row without labels gets one here: mBART moves a row's last token to its front, and looks
    for it; what is read where nothing is predicted counts nowhere."""
    if family_of(model).decoder_start is None:
        return dict(batch)
    if not reads_labels(model, stacks(model)[-1]):
        ids = batch["input_ids"]  # (B, S)
        start = torch.full_like(ids[:, :1], model.config.decoder_start_token_id)
        return {**batch, "decoder_input_ids": torch.cat([start, ids[:, :-1]], dim=1)}
    labels = batch["labels"]  # (B, T)
    none = (labels == IGNORED).all(dim=1)  # (B,)
    some_token = int(model.config.pad_token_id == 0)
    labels = torch.cat([labels[:, :1].masked_fill(none[:, None], some_token), labels[:, 1:]], dim=1)
    return {**batch, "decoder_input_ids": model.prepare_decoder_input_ids_from_labels(labels=labels)}


def run_stack(
    model: Any,
    stack: Stack,
    batch: Mapping[str, Tensor],
    below: Tensor | None,
    attentions: Activations | None = None,
) -> Tensor:
    """The states (B, S or T, d) of one stack after its final norm, before any head. `batch`: `with_inputs`; `below`
    (B, S, d): the states of the stack under it, None for the first. Attention maps are left in `attentions`.

    A stack above another gets no mask for its own input: padding stands at the end, where causal attention never sees
    it, and a mask made of the padding token would hide the start token of T5, Pegasus and Marian.
    """
    asked: dict[str, Any] = {"output_attentions": True} if attentions is not None else {}
    module: Any = stack_of(model, stack)
    mask = _attended(batch["attention_mask"])
    if below is None:
        output = module(**{**read_by_model(model, batch), "attention_mask": mask}, **asked)
    else:
        ids = batch["decoder_input_ids"]
        output = module(
            input_ids=ids, encoder_hidden_states=below, encoder_attention_mask=mask, use_cache=False, **asked
        )
    if attentions is not None:
        attentions.self_attention = tuple(output.attentions)
        if below is not None:
            attentions.cross_attention = tuple(output.cross_attentions)
    states: Tensor = output.last_hidden_state
    return states


def read_by_model(model: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What of a batch the first stack of a model reads, by the names that transformers has: neither labels, nor what
    was kept of a teacher (`SIDE.STATE`), nor the types of tokens where it has embeddings of none."""
    without = _NOT_READ if getattr(model.config, "type_vocab_size", 0) > 1 else (*_NOT_READ, "token_type_ids")
    return {name: found for name, found in batch.items() if "." not in name and name not in without}


_NOT_READ = ("labels", "decoder_input_ids")


def last_states(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """The states that the head reads (B, S or T, d), through all stacks. `batch`: `with_inputs`."""
    below: Tensor | None = None
    for stack in stacks(model):
        below = run_stack(model, stack, batch, below)
    assert below is not None
    return below


def _attended(attention_mask: Tensor) -> Tensor:
    """A row without tokens (`collate`) attends to its padding: a softmax over nothing is no number."""
    return attention_mask | (attention_mask == 0).all(dim=1, keepdim=True)


def label_logits(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Logits (B, S or T, V), or (B, classes), of the model as it is."""
    inputs: dict[str, Any] = read_by_model(model, batch)
    if reads_labels(model, stacks(model)[-1]):
        inputs |= {"decoder_input_ids": with_inputs(model, batch)["decoder_input_ids"], "use_cache": False}
    logits: Tensor = model(**inputs).logits
    return logits


@contextmanager
def capture_activations(
    model: nn.Module, stack: Stack, inputs: Sequence[int] = (), outputs: Sequence[int] = ()
) -> Iterator[Activations]:
    """Within it, every pass through the stack leaves the inputs and outputs of these layers in `Activations`."""
    captured = Activations()
    handles = []
    for index in sorted({*inputs, *outputs}):
        layer = layers(model, stack)[index]
        if index in inputs:
            handles.append(layer.register_forward_pre_hook(_keeper(captured.inputs, index), with_kwargs=True))
        if index in outputs:
            handles.append(layer.register_forward_hook(_output_keeper(captured.outputs, index)))
    try:
        yield captured
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


def use_eager_attention(*models: Any, scores: bool = False) -> None:
    """Attention maps exist in the plain implementation alone: the fused one returns empty tuples, without a
    word (domain facts 11.3). With `scores` the maps are those before the softmax."""
    if scores:
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import eager_mask

        AttentionInterface.register(_SCORES, _attention_with_scores)
        AttentionMaskInterface.register(_SCORES, eager_mask)
    for model in models:
        model.set_attn_implementation(_SCORES if scores else "eager")


_SCORES = "distilc_scores"  # what transformers knows the implementation by


def _attention_with_scores(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor]:
    """What the plain implementation of transformers computes; (states (B, Q, heads, d), scores (B, heads, Q, K)).
    The scores have T5's position bias in them, and are 0 where the mask hides a key (TinyBERT's code: below -100)."""
    scores = query @ key.transpose(2, 3) * (query.size(-1) ** -0.5 if scaling is None else scaling)
    if position_bias is not None:
        scores = scores + position_bias
    masked = scores if attention_mask is None else scores + attention_mask
    weights = nn.functional.dropout(masked.softmax(dim=-1), p=dropout, training=module.training)
    if attention_mask is not None:
        scores = scores.masked_fill(attention_mask < torch.finfo(attention_mask.dtype).min / 2, 0.0)
    return (weights @ value).transpose(1, 2).contiguous(), scores


def equal_parts(one: nn.Module, other: nn.Module, stack: Stack) -> bool:
    """Do two models hold the same numbers in a stack, embeddings and norms included?"""
    first, second = (dict(stack_of(model, stack).state_dict()) for model in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def first_stack_digest(model: Any) -> str:
    """sha256 of the weights of a model's first stack, embeddings and norms included, as fp32."""
    found = hashlib.sha256()
    for name, tensor in sorted(stack_of(model, stacks(model)[0]).state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
