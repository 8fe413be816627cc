"""The terms of installed packages: what their references are given, and what those say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..extensions import blamed
from ..objective.assembly import TERMS, Active
from ..plan.settings import ObjectiveSettings
from ..protocol import ModelOutputs, Stack, Term, TermInputs
from .reference import Attentions, Batch, Plain, phi_of, projected


def own_terms(settings: ObjectiveSettings) -> dict[str, Term]:
    """Those of packages that are on."""
    found = {name: TERMS[name] for name in settings.own}
    return {name: term for name, term in found.items() if isinstance(term, Term)}


def looks_at_maps(settings: ObjectiveSettings) -> Attentions:
    """Does any term look at attention maps, and at which?"""
    if settings.attention is not None and settings.attention.maps == "scores":
        return "scores"
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
    phi = {stack: pairs for stack in student.stacks if (pairs := phi_of(settings, stack))}
    return TermInputs(
        student=_outputs(student, {stack: range(len(pairs)) for stack, pairs in phi.items()}, projections),
        teacher=None if teacher is None else _outputs(teacher, phi),
        labels=batch["labels"],
        source_mask=batch["attention_mask"].bool(),
        phi=phi,
        masks=student.counted,
    )


def _outputs(
    plain: Plain, layers: Mapping[Stack, Iterable[int]], projections: Mapping[str, Tensor] = MappingProxyType({})
) -> ModelOutputs:
    found: dict[str, Any] = {}
    for stack, numbers in layers.items():
        if states := plain.outputs[stack]:
            found[f"{stack}_layers"] = tuple(projected(states[layer], projections.get(stack)) for layer in numbers)
        for kind, maps in plain.maps.items():
            if kind.startswith(stack):
                found[f"{kind}_attention"] = tuple(maps[layer] for layer in numbers)
    last = plain.stacks[-1]
    if embeddings := plain.inputs[last]:
        found[f"{last}_embeddings"] = projected(embeddings[0], projections.get("embeddings"))
    return ModelOutputs(logits=plain.logits, last_state=projected(plain.last, projections.get("last")), **found)
