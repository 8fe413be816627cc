"""The terms of installed packages: what their references are given, and what those say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..extensions import blamed
from ..objective.assembly import TERMS, Active
from ..plan import ObjectiveSettings
from ..protocol import ModelOutputs, Stack, Term, TermInputs
from .reference import Batch, Plain, phi_of, projected


def own_terms(settings: ObjectiveSettings) -> dict[str, Term]:
    """Those of packages that are on."""
    found = {name: TERMS[name] for name in settings.own}
    return {name: term for name, term in found.items() if isinstance(term, Term)}


def looks_at_maps(settings: ObjectiveSettings) -> bool:
    """Does any term look at attention maps?"""
    return settings.attention is not None or any("attention" in term.needs for term in own_terms(settings).values())


def own_means(
    settings: ObjectiveSettings,
    terms: Iterable[Active],
    student: Plain,
    teacher: Plain | None,
    batch: Batch,
    projections: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Term -> its mean over the batch, of those of packages that bring a reference. Raises `Failure` R108: one of
    them went wrong."""
    found: dict[str, Tensor] = {}
    for active in terms:
        reference = active.term.reference
        if active.name not in settings.own or reference is None:
            continue
        inputs = _inputs(settings, student, teacher, batch, projections)
        with blamed(active.entry):
            value = reference(inputs, settings.own[active.name])
            if not isinstance(value, Tensor) or value.dim() or not torch.is_floating_point(value):
                raise TypeError("its reference must give a scalar tensor of a float type")
        found[active.name] = value
    return found


def _inputs(
    settings: ObjectiveSettings, student: Plain, teacher: Plain | None, batch: Batch, projections: Mapping[str, Tensor]
) -> TermInputs:
    """What a term is given, out of plain forwards: whole batches, layers in the pairs of φ."""
    stacks: tuple[Stack, ...] = ("encoder", "decoder")
    phi = {stack: pairs for stack in stacks if (pairs := phi_of(settings, stack))}
    outputs = _outputs(student, {stack: range(len(pairs)) for stack, pairs in phi.items()})
    outputs = replace(
        outputs,
        encoder_layers=_projected(outputs.encoder_layers, projections.get("encoder")),
        decoder_layers=_projected(outputs.decoder_layers, projections.get("decoder")),
        decoder_embeddings=None
        if outputs.decoder_embeddings is None
        else projected(outputs.decoder_embeddings, projections.get("embeddings")),
        last_state=None if outputs.last_state is None else projected(outputs.last_state, projections.get("last")),
    )
    return TermInputs(
        student=outputs,
        teacher=None if teacher is None else _outputs(teacher, phi),
        labels=batch["labels"],
        source_mask=batch["attention_mask"].bool(),
        phi=phi,
    )


def _projected(states: tuple[Tensor, ...] | None, matrix: Tensor | None) -> tuple[Tensor, ...] | None:
    return None if states is None else tuple(projected(state, matrix) for state in states)


def _outputs(plain: Plain, layers: Mapping[Stack, Iterable[int]]) -> ModelOutputs:
    def of(found: list[Tensor] | tuple[Tensor, ...], stack: Stack) -> tuple[Tensor, ...] | None:
        return tuple(found[layer] for layer in layers[stack]) if stack in layers and found else None

    embeddings = plain.inputs["decoder"]
    return ModelOutputs(
        logits=plain.logits,
        encoder_layers=of(plain.outputs["encoder"], "encoder"),
        decoder_layers=of(plain.outputs["decoder"], "decoder"),
        encoder_self_attention=of(plain.maps.get("encoder_self", ()), "encoder"),
        decoder_self_attention=of(plain.maps.get("decoder_self", ()), "decoder"),
        decoder_cross_attention=of(plain.maps.get("decoder_cross", ()), "decoder"),
        decoder_embeddings=embeddings[0] if embeddings else None,
        last_state=plain.last,
    )
