"""The terms of the loss a second time, in plain PyTorch: ordinary forwards of transformers, hooks on the layers,
one formula a term. Nothing of `objective/` is used here; what both share is where the layers of a family are.

Everything is a mean, as the papers write it (domain facts 3). In float64 this is the reference of `verify`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from ..models.families import layers, stack_of, stacks
from ..plan.settings import HiddenTerm, LogitsTerm, ObjectiveSettings
from ..protocol import Stack

Batch = Mapping[str, Tensor]
Attentions = bool | Literal["scores"]  # are attention maps asked for, and which
NOT_PREDICTED = -100
EPSILON = 1e-5


class Plain:
    """One forward of transformers over a whole batch, and what its layers took and gave.

    `inputs[stack][k]`, `outputs[stack][k]`: of layer k, (B, S, d). `last`: the states of the last stack (B, T, d).
    `first`: those of the first one (B, S, d). `counted[stack]`: which tokens of its input count (B, S or T).
    `maps[kind][k]`: attention of layer k, (B, heads, queries, keys), when `attentions`; if those are `scores`, what
    its softmax is given, 0 where a mask hides the key.
    """

    def __init__(
        self,
        model: Any,
        batch: Batch,
        *,
        attentions: Attentions,
        decoder_input_ids: Tensor | None = None,
        first_states: Tensor | None = None,
    ) -> None:
        self.stacks = stacks(model)
        self.counted = {stack: item_mask(batch, stack) for stack in self.stacks}
        self.inputs: dict[Stack, list[Tensor]] = {stack: [] for stack in stacks(model)}
        self.outputs: dict[Stack, list[Tensor]] = {stack: [] for stack in stacks(model)}
        self.last = self.first = torch.empty(0)
        self.decoder_input_ids: Tensor | None = None
        given: dict[str, Any] = {name: found for name, found in batch.items() if "." not in name}
        if getattr(model.config, "type_vocab_size", 0) < 2:
            given.pop("token_type_ids", None)  # the other model's
        if decoder_input_ids is not None:
            del given["labels"]
            given["decoder_input_ids"] = decoder_input_ids
        if len(self.stacks) > 1:
            given["use_cache"] = False
        if first_states is not None:
            from transformers.modeling_outputs import BaseModelOutput

            given["encoder_outputs"] = BaseModelOutput(last_hidden_state=first_states)
        if attentions:
            before = model.config._attn_implementation
            model.set_attn_implementation("eager")
        with self._watching(model), _softmaxes() as before_softmax:
            output = model(output_attentions=bool(attentions), **given)
        if attentions:
            model.set_attn_implementation(before)
        self.logits: Tensor = output.logits  # (B, T, V), (B, S, V) or (B, classes)
        self.maps: dict[str, tuple[Tensor, ...]] = {}
        if attentions and len(self.stacks) == 1:
            self.maps[f"{self.stacks[0]}_self"] = output.attentions
        elif attentions:
            self.maps = {"decoder_self": output.decoder_attentions, "decoder_cross": output.cross_attentions}
            if first_states is None:
                self.maps["encoder_self"] = output.encoder_attentions
        if attentions == "scores":
            self.maps = _scores(self.maps, before_softmax)

    @contextmanager
    def _watching(self, model: Any) -> Iterator[None]:
        handles: list[Any] = []
        for stack in stacks(model):
            for layer in layers(model, stack):
                handles.append(layer.register_forward_pre_hook(_taker(self.inputs[stack]), with_kwargs=True))
                handles.append(layer.register_forward_hook(_giver(self.outputs[stack])))

        def enter(module: Any, arguments: Any, named: Any) -> None:
            self.decoder_input_ids = arguments[0] if arguments else named["input_ids"]

        def leave_first(module: Any, arguments: Any, output: Any) -> None:
            self.first = _first(output)

        def leave_last(module: Any, arguments: Any, output: Any) -> None:
            self.last = _first(output)

        first, last = stack_of(model, self.stacks[0]), stack_of(model, self.stacks[-1])
        if first is not last:
            handles.append(last.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(first.register_forward_hook(leave_first))
        handles.append(last.register_forward_hook(leave_last))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def _softmaxes() -> Iterator[list[Tensor]]:
    """What torch's softmax is given, call by call."""
    given: list[Tensor] = []
    original = functional.softmax

    def softmax(scores: Tensor, *arguments: Any, **named: Any) -> Tensor:
        given.append(scores)
        return original(scores, *arguments, **named)

    functional.softmax = softmax  # type: ignore[assignment]
    try:
        yield given
    finally:
        functional.softmax = original


def _scores(maps: Mapping[str, tuple[Tensor, ...]], given: list[Tensor]) -> dict[str, tuple[Tensor, ...]]:
    """The scores of maps: layer by layer from the input up, a decoder's own before those over the encoder."""
    clean = iter(scores.masked_fill(scores < torch.finfo(scores.dtype).min / 2, 0.0) for scores in given)
    encoder = tuple(next(clean) for _ in maps.get("encoder_self", ()))
    pairs = [(next(clean), next(clean)) for _ in maps.get("decoder_self", ())]
    found = {"encoder_self": encoder}
    found |= {"decoder_self": tuple(own for own, _ in pairs), "decoder_cross": tuple(cross for _, cross in pairs)}
    return {kind: found[kind] for kind in maps}


def reference_terms(
    settings: ObjectiveSettings, student: Plain, teacher: Plain | None, batch: Batch, projections: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Term -> its mean over the batch, for our own terms with a weight. `projections`: the learned matrices
    (d', d) of a narrower student, by what they project."""
    found: dict[str, Tensor] = {}
    valid = predicted(batch["labels"])  # (B, T), (B, S) or (B,)
    if settings.labels is not None and settings.labels.weight:
        found["labels"] = labels_mean(student.logits[valid], batch["labels"][valid], settings.labels.smoothing)
    if settings.logits is not None and settings.logits.weight and settings.logits.candidates is not None:
        found["logits"] = candidates_mean(
            settings.logits,
            student.logits[valid],
            batch["candidates.ids"][valid],
            batch["candidates.log-probabilities"][valid],
        )
    if teacher is None:
        return found
    if settings.logits is not None and settings.logits.weight and settings.logits.candidates is None:
        rows = student.counted[student.stacks[-1]] if settings.logits.positions == "all" else valid
        found["logits"] = logits_mean(settings.logits, student.logits[rows], teacher.logits[rows])
    for stack in student.outputs:
        if settings.hidden is not None and getattr(settings.hidden, stack):
            found[f"hidden_{stack}"] = hidden_mean(
                settings, settings.hidden, stack, student, teacher, student.counted[stack], projections.get(stack)
            )
    for kind in ("encoder_self", "decoder_self", "decoder_cross"):
        if settings.attention is not None and getattr(settings.attention, kind):
            found[f"attention_{kind}"] = attention_mean(settings, kind, student, teacher)
    last = student.stacks[-1]
    if settings.cosine:
        rows = student.counted[last]
        one, two = projected(student.last, projections.get("last"))[rows], teacher.last[rows]
        found["cosine"] = (1 - (one * two).sum(-1) / (one.norm(dim=-1) * two.norm(dim=-1))).mean()
    if settings.embedding:
        one = projected(student.inputs[last][0], projections.get("embeddings"))
        found["embedding"] = (one - teacher.inputs[last][0])[student.counted[last]].square().mean()
    return found


def reference_weights(settings: ObjectiveSettings) -> dict[str, float]:
    """Term -> weight, from the settings as they stand."""
    found: dict[str, float] = {}
    if settings.labels is not None:
        found["labels"] = settings.labels.weight
    if settings.logits is not None:
        found["logits"] = settings.logits.weight
    if settings.hidden is not None:
        found |= {"hidden_encoder": settings.hidden.encoder, "hidden_decoder": settings.hidden.decoder}
    for kind in ("encoder_self", "decoder_self", "decoder_cross"):
        if settings.attention is not None:
            found[f"attention_{kind}"] = getattr(settings.attention, kind)
    found |= {"cosine": settings.cosine or 0.0, "embedding": settings.embedding or 0.0}
    return {name: weight for name, weight in found.items() if weight}


def item_mask(batch: Batch, stack: Stack) -> Tensor:
    """What a mean over states of a stack is over: tokens that a label stands for, of a decoder that predicts them; else
    those that are read."""
    labels = batch["labels"]
    return labels != NOT_PREDICTED if stack == "decoder" and labels.dim() == 2 else batch["attention_mask"].bool()


def predicted(labels: Tensor) -> Tensor:
    """Where there is something to predict; of numbers: where there is one."""
    return labels == labels if labels.is_floating_point() else labels != NOT_PREDICTED


def labels_mean(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """(1 - e) nll + e/V sum of -log p, logits (N, V), labels (N,); of numbers (y - y')^2, logits (N, 1)."""
    if labels.is_floating_point():
        return ((logits[:, 0] - labels) ** 2).mean()
    log_p = _log_softmax(logits)
    nll = -log_p.gather(-1, labels[:, None])[:, 0]
    return ((1 - smoothing) * nll - smoothing * log_p.mean(-1)).mean()


def logits_mean(
    term: LogitsTerm, student: Tensor, teacher: Tensor, *, padded_with: float = -math.inf, squared: bool = True
) -> Tensor:
    """T² D(teacher, student), logits (N, V) and (N, V'); what one vocabulary has and the other has not is padding
    of probability 0. `mse` is the squared error of the logits, summed over the vocabulary. The options are the usual
    mistakes, for diagnoses."""
    size, most = sorted((student.shape[-1], teacher.shape[-1]))
    if term.divergence == "mse":
        return (student[:, :size] - teacher[:, :size]).square().sum(-1).mean()
    one, two = (_padded(logits, size, most, padded_with) / term.temperature for logits in (student, teacher))
    log_q, log_p = _log_softmax(one), _log_softmax(two)
    if padded_with == -math.inf:
        # 0 log 0 is 0; taken out before anything is computed with it, for the gradient's sake.
        log_q, log_p = log_q[:, :size], log_p[:, :size]
    if term.divergence == "forward-kl":
        value = _kl(log_p, log_q)
    elif term.divergence == "reverse-kl":
        value = _kl(log_q, log_p)
    elif term.divergence == "jsd":
        beta = float(term.beta or 0.0)
        log_m = (beta * log_p.exp() + (1 - beta) * log_q.exp()).log()
        value = beta * _kl(log_p, log_m) + (1 - beta) * _kl(log_q, log_m)
    else:
        alpha = float(term.alpha or 0.0)
        value = _kl(log_p, (alpha * log_p.exp() + (1 - alpha) * log_q.exp()).log())
    return value.mean() * (term.temperature**2 if squared else 1.0)


def candidates_mean(term: LogitsTerm, student: Tensor, ids: Tensor, log_p: Tensor) -> Tensor:
    """T² D of the teacher's candidates, student logits (N, V), ids (N, K): over them and, of the most probable ones,
    the sum of all others as one outcome, log_p (N, K + 1); of draws, log_p (N, K), their mean of log p - log q."""
    assert term.candidates is not None
    q = _log_softmax(student[:, : term.candidates.vocabulary] / term.temperature).exp()
    p, kept = log_p.to(q).exp(), q.gather(-1, ids.long())
    top = term.candidates.kind == "top-k"
    if top:
        others = torch.ones_like(q).scatter(-1, ids.long(), 0.0)
        kept = torch.cat([kept, (q * others).sum(-1, keepdim=True)], dim=-1)
    alpha = float(term.alpha or 0.0) if term.divergence == "skew-kl" else 0.0
    value = p.log() - (alpha * p + (1 - alpha) * kept).log()
    return ((p * value).sum(-1) if top else value.mean(-1)).mean() * term.temperature**2


def hidden_mean(
    settings: ObjectiveSettings,
    term: HiddenTerm,
    stack: Stack,
    student: Plain,
    teacher: Plain,
    mask: Tensor,
    matrix: Tensor | None,
) -> Tensor:
    """Mean squared error of the paired layers over width and items, summed over the pairs."""
    student_states, teacher_states = (
        (plain.outputs if term.align == "outputs" else plain.inputs)[stack] for plain in (student, teacher)
    )
    pairs = [
        (_normal(projected(student_states[k], matrix), term.layer_norm) - _normal(teacher_states[j], term.layer_norm))
        for k, j in enumerate(phi_of(settings, stack))
    ]
    return torch.stack([error.square().mean(-1)[mask].mean() for error in pairs]).sum()


def attention_mean(settings: ObjectiveSettings, kind: str, student: Plain, teacher: Plain) -> Tensor:
    """Squared error of attention maps over heads and real keys, a mean over real queries, summed over the
    pairs; example by example, so that there is no padding to mask."""
    stack: Stack = "encoder" if kind == "encoder_self" else "decoder"
    queries = student.counted[stack]
    keys = student.counted["encoder" if kind == "decoder_cross" else stack]
    sums = []
    for k, j in enumerate(phi_of(settings, stack)):
        for b in range(len(queries)):
            one = student.maps[kind][k][b][:, queries[b]][:, :, keys[b]]
            two = teacher.maps[kind][j][b][:, queries[b]][:, :, keys[b]]
            sums.append((one - two).square().mean(dim=(0, 2)).sum())
    return torch.stack(sums).sum() / queries.sum()


def phi_of(settings: ObjectiveSettings, stack: Stack) -> tuple[int, ...]:
    """The teacher layer of each student layer; () where there is no map."""
    found = None if settings.phi is None else getattr(settings.phi, stack)
    return () if found is None else tuple(found)


def projected(states: Tensor, matrix: Tensor | None) -> Tensor:
    return states if matrix is None else states @ matrix.T


def _normal(state: Tensor, kind: str) -> Tensor:
    if kind == "none":
        return state
    axes = (-1,) if kind == "per-token" else tuple(range(state.dim()))
    centred = state - state.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True) + EPSILON).sqrt()


def _padded(logits: Tensor, size: int, most: int, value: float) -> Tensor:
    """(N, most). With minus infinity the entries from `size` on, that only one of the two has, are overwritten."""
    own = logits[:, :size] if value == -math.inf else logits
    return torch.cat([own, logits.new_full((len(logits), most - own.shape[-1]), value)], dim=-1)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """(N,)"""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _log_softmax(logits: Tensor) -> Tensor:
    return logits - logits.logsumexp(-1, keepdim=True)


def _taker(kept: list[Tensor]) -> Any:
    def take(module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        kept.append(arguments[0] if arguments else named["hidden_states"])

    return take


def _giver(kept: list[Tensor]) -> Any:
    def give(module: Any, arguments: tuple[Any, ...], output: Any) -> None:
        kept.append(_first(output))

    return give


def _first(output: Any) -> Tensor:
    found: Tensor = output if isinstance(output, Tensor) else output[0]
    return found
