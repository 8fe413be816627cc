"""(a), (b), (d): the objective against itself: of equal models, in other chunks, with more padding. In (b) the
logits are those of an ordinary forward of transformers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..models.families import counted, has_label, positions, reads_labels, stacks
from ..models.forward import last_states, with_inputs
from ..objective.assembly import TERMS, everywhere
from ..objective.objective import OF_LOGITS, Objective, factors_of
from ..plan.settings import LayerMaps, ObjectiveSettings
from ..protocol import ModelOutputs, TermInputs
from .candidates import NAMES
from .own_terms import own_terms
from .proof import Proof, exempt, measured
from .reference import Attentions, Batch, Plain
from .step import GRADIENT_TOLERANCE, LOSS_TOLERANCE, NEAR_ZERO, without_batch_norm
from .subject import (
    Subject,
    counts_of,
    difference,
    gradients_of,
    loss_and_gradients,
    relative,
    small_chunks,
)

ZERO = 1e-9  # float64, per item
LOGITS_TOLERANCE = 1e-4  # fp32, of the largest logit
MORE_SOURCE, MORE_TARGET = 3, 2
SPARE = 2  # rows of a table of positions that no token has (BART, RoBERTa)


# --- (a) ---------------------------------------------------------------------------------------------


def prove_identity(subject: Subject) -> Iterator[Proof]:
    """The teacher as its own student, each layer held to itself, in float64: every term is zero. Of packages those
    that say so."""
    settings = subject.settings.objective
    silent = {name: term for name, term in own_terms(settings).items() if not term.zero_when_equal}
    for name, term in silent.items():
        if "teacher" in term.needs:
            yield exempt("a", f"student := teacher: {name}", "its package does not say that it is zero then")
    own_ones = {name: value for name, value in settings.own.items() if name not in silent}
    settings = replace(settings, labels=None, own=own_ones, schedules={})
    if not subject.looks_at_teacher or not settings.terms:
        yield exempt("a", "student := teacher", "no term compares the student with the teacher")
        return
    own = replace(subject, inputs={**subject.inputs, "model": subject.teacher_folder})
    phi = None
    if settings.phi is not None:  # of all layers: φ(k) = k
        mapped = [stack for stack, layers in asdict(settings.phi).items() if layers is not None]
        none = dict.fromkeys(asdict(settings.phi))
        every = {stack: tuple(range(getattr(subject.plan.teacher, f"{stack}_layers"))) for stack in mapped}
        phi = LayerMaps(**{**none, **every})
    changed = replace(own.settings, objective=replace(settings, phi=phi))
    own = replace(own, stage=replace(own.stage, settings=changed))
    objective = in_float64(own.objective())
    batch = own.batch()
    counts = counts_of(batch)
    with torch.no_grad():
        _, raw = objective(batch, factors_of(counts, world=1))
    items = objective.items()
    for name, value in raw.items():
        mean = abs(float(value)) / counts[items[name]]
        yield measured("a", f"student := teacher: {name}", mean, ZERO, f"the term {name} is {mean:.3g} instead of zero")


def in_float64(objective: Objective) -> Objective:
    """The same objective, teacher included, in float64."""
    if objective.teacher is not None:
        objective.teacher.model.double()
    return objective.double()


# --- (b) ---------------------------------------------------------------------------------------------


def of_logits(settings: ObjectiveSettings) -> ObjectiveSettings:
    """Those of the terms that look at logits alone."""

    def looks_at_logits(name: str) -> bool:
        found = TERMS[name]
        return all(term.needs <= OF_LOGITS for term in (found if isinstance(found, tuple) else (found,)))

    own = {name: value for name, value in settings.own.items() if looks_at_logits(name)}
    return replace(settings, hidden=None, attention=None, cosine=None, embedding=None, own=own)


def prove_chunks(subject: Subject, objective: Objective) -> Iterator[Proof]:
    """The head's logits, and the terms of the logits with their gradient, against those of whole logits."""
    settings = of_logits(subject.settings.objective)
    if not settings.terms:
        yield exempt("b", "the terms of the logits", "there are none")
        return
    teacher = objective.teacher
    alone = Objective(objective.student, settings, subject.settings.freeze, teacher).eval()
    batch = subject.batch()
    valid = has_label(batch["labels"])
    if everywhere(settings):
        valid = counted(alone.student, alone.stacks[-1], batch)
    student = Plain(alone.student, batch, attentions=False)
    teacher_plain = None
    with torch.no_grad():
        yield _states(alone, batch, student)
        projection = alone.head_terms.student
        found = projection(projection.rows(student.last, valid, batch))
        yield _logits("student", found, student.logits[valid])
        if teacher is not None:
            teacher_plain = plain_teacher(teacher, batch, student, attentions=False)
            found = teacher.logits(teacher.rows(teacher_plain.last, valid, batch))
            yield _logits("teacher", found, teacher_plain.logits[valid])
    factors = factors_of(counts_of(batch), world=1)
    candidates = alone.candidates(batch)
    compared = ModelOutputs(
        logits=None if teacher_plain is None else teacher_plain.logits[valid],
        candidates=None if candidates is None else candidates[valid],
    )
    inputs = TermInputs(
        student=ModelOutputs(logits=student.logits[valid]),
        teacher=None if teacher_plain is None and candidates is None else compared,
        labels=batch["labels"][valid],
        source_mask=batch["attention_mask"].bool(),
        phi={},
    )
    plain = torch.stack([active.weight * factors[active.items] * active.sum(inputs) for active in alone.terms]).sum()
    gradients = gradients_of(alone, plain)
    with small_chunks():
        loss, chunked = loss_and_gradients(alone, batch)
    names = ", ".join(active.name for active in alone.terms)
    expected = float(plain.detach())
    note = f"{names}: {loss:.6g} in chunks, {expected:.6g} of whole logits"
    yield measured("b", f"{names} in chunks: the loss", relative(loss, expected, NEAR_ZERO), LOSS_TOLERANCE, note)
    worst, parameter = difference(chunked, gradients)
    note = f"the gradient of {parameter} is another in chunks"
    yield measured("b", f"{names} in chunks: the gradient", worst, GRADIENT_TOLERANCE, note)


def plain_teacher(teacher: Any, batch: Batch, student: Plain, *, attentions: Attentions) -> Plain:
    """A plain forward of the objective's teacher, on the student's decoder input. A first stack that serves both is
    gone from it: the student's states stand for it."""
    states = student.first.detach() if teacher.shared else None
    return Plain(
        teacher.model, batch, attentions=attentions, decoder_input_ids=student.decoder_input_ids, first_states=states
    )


def _states(objective: Objective, batch: Batch, plain: Plain) -> Proof:
    """What the head reads, stack by stack, against one whole forward pass of transformers."""
    model = objective.student
    at = counted(model, objective.stacks[-1], batch)
    found, expected = last_states(model, with_inputs(model, batch))[at], plain.last[at]
    worst = float((found - expected).abs().max()) / max(float(expected.abs().max()), 1e-9)
    note = "the states that the head reads are not those of transformers' own forward pass: is padding attended to?"
    return measured("b", "the states that the head reads", worst, LOGITS_TOLERANCE, note)


def _logits(who: str, found: Tensor, expected: Tensor) -> Proof:
    largest = float(expected.abs().max())
    worst = float((found - expected).abs().max()) / max(largest, 1e-9)
    ratio = float(found.abs().max()) / max(largest, 1e-9)
    note = (
        f"the head of the {who}: its logits are {ratio:.4g} times those of transformers (its scale, its bias, or "
        "another matrix?)"
    )
    return measured("b", f"the head of the {who} gives transformers' logits", worst, LOGITS_TOLERANCE, note)


# --- (d) ---------------------------------------------------------------------------------------------


def _padded(model: Any, batch: Batch, pad_id: int) -> dict[str, Tensor]:
    """A batch with wider padding on both sides; labels of whole examples stay as they are."""
    fill = {"input_ids": pad_id, "labels": -100}
    more = MORE_TARGET if reads_labels(model, stacks(model)[-1]) else MORE_SOURCE
    found = {}
    for name, tensor in batch.items():
        if name in NAMES:
            found[name] = functional.pad(tensor, (0, 0, 0, MORE_TARGET))
        elif tensor.dim() == 1:
            found[name] = tensor
        else:
            found[name] = functional.pad(
                tensor, (0, more if name == "labels" else MORE_SOURCE), value=fill.get(name, 0)
            )
    return found


def _with_room(model: Any, batch: Batch) -> dict[str, Tensor] | None:
    """The rows of a batch that can be padded further: the model has positions for no more. None: there are none."""
    tables: list[Any] = [module.weight for module in positions(model)]
    room = min(map(len, tables), default=1 << 30) - SPARE - max(MORE_SOURCE, MORE_TARGET)
    lengths = batch["attention_mask"].sum(dim=1)  # (B,)
    writes = reads_labels(model, stacks(model)[-1])
    targets = (batch["labels"] != -100).sum(dim=1) if writes else lengths
    fits = (lengths <= room) & (targets <= room)
    if bool(fits.all()):
        return dict(batch)
    if not bool(fits.any()):
        return None
    widths = dict.fromkeys(batch, int(lengths[fits].max()))
    if writes:
        widths |= dict.fromkeys(("labels", *NAMES), int(targets[fits].max()))
    return {
        name: tensor[fits] if tensor.dim() == 1 else tensor[fits][:, : widths[name]] for name, tensor in batch.items()
    }


def prove_padding(subject: Subject, objective: Objective) -> Iterator[Proof]:
    """More padding on both sides, in fp32, without dropout."""
    subject, left_out = without_batch_norm(subject)
    if left_out:
        yield exempt("d", "the term hidden", left_out)
        objective = subject.objective()
        if not objective.terms:
            return
    batch = _with_room(objective.student, subject.batch())
    if batch is None:
        yield exempt("d", "more padding", "every row is as long as the model's positions allow")
        return
    padded = _padded(objective.student, batch, subject.pad_id)
    counts = counts_of(batch)
    found: list[dict[str, float]] = []
    gradients = []
    for one in (batch, padded):
        share, raw = objective(one, factors_of(counts, world=1))
        found.append({name: float(value) for name, value in raw.items()})
        gradients.append(gradients_of(objective, share))
        del share
    worst, term = max((relative(found[1][name], value, NEAR_ZERO), name) for name, value in found[0].items())
    before, after = (f"{values[term]:.6g}" for values in found)
    note = f"the term {term} is {after} with more padding and {before} without: its mask counts it"
    yield measured("d", "more padding: the terms", worst, LOSS_TOLERANCE, note)
    worst, parameter = difference(gradients[1], gradients[0])
    note = f"the gradient of {parameter} depends on padding"
    yield measured("d", "more padding: the gradient", worst, GRADIENT_TOLERANCE, note)
