"""(h) Every term and the total against the reference in float64, and, where they differ, what it is that differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..models.families import family_of, has_label, items_of
from ..objective.assembly import Active
from ..objective.objective import Objective, factors_of
from ..plan.settings import ObjectiveSettings
from ..protocol import Stack, TermInputs
from .own_terms import looks_at_maps, own_means
from .proof import Proof, exempt, held, measured
from .reference import Batch, Plain, hidden_mean, logits_mean, phi_of, reference_terms, reference_weights
from .schedules import settings_at, telling_steps, values_at
from .subject import Subject, counts_of, difference, gradients_of, relative

SAME_STATES = 1e-5


@dataclass(frozen=True)
class Tolerances:
    """Largest relative differences of a term and of a gradient; a term below `near_zero` is held to that."""

    term: float
    gradient: float
    near_zero: float


FLOAT64 = Tolerances(1e-7, 1e-5, 1e-3)  # T5's norms compute in float32
FLOAT32 = Tolerances(1e-4, 1e-3, 0.1)


@dataclass
class Compared:
    """Both sides of the comparison, and what the terms were given (term -> inputs). `settings`: as they stand at the
    step; `model`: the student."""

    subject: Subject
    model: Any
    settings: ObjectiveSettings
    batch: Batch
    student: Plain
    teacher: Plain | None
    projections: Mapping[str, Tensor]
    given: dict[str, TermInputs]


def prove_reference(
    subject: Subject, objective: Objective, teacher: Plain | None, allowed: Tolerances = FLOAT64
) -> Iterator[Proof]:
    """`objective` and the plain forward of the teacher have the float type that the tolerances are for. Where numbers
    of the loss change, at steps at which an error shows, and as in the training: by the steps of its course."""
    settings = subject.settings.objective
    if not settings.schedules:
        yield from _prove_at(subject, objective, teacher, allowed, settings, "")
        return
    step_schedule = subject.step_schedule
    for step in telling_steps(settings.schedules, step_schedule):
        objective.go_to(step_schedule.scheduled(step))
        values = values_at(settings.schedules, step_schedule, step)
        yield from _prove_at(subject, objective, teacher, allowed, settings_at(settings, values), f" at step {step}")
    objective.go_to({})


def _prove_at(
    subject: Subject,
    objective: Objective,
    teacher: Plain | None,
    allowed: Tolerances,
    settings: ObjectiveSettings,
    when: str,
) -> Iterator[Proof]:
    """`settings`: as they stand at the step. A term of weight 0 is computed then, too, and adds nothing."""
    batch = subject.batch()
    counts = counts_of(batch)
    student = Plain(objective.student, batch, attentions=looks_at_maps(settings))
    matrices: dict[str, Any] = dict(objective.projections.matrices.items())
    projections: dict[str, Tensor] = {name: matrix.weight for name, matrix in matrices.items()}
    expected = reference_terms(settings, student, teacher, batch, projections)
    expected |= own_means(settings, objective.terms, student, teacher, batch, projections)
    with watching(objective) as given:
        share, raw = objective(batch, factors_of(counts, world=1))
    compared = Compared(subject, objective.student, settings, batch, student, teacher, projections, given)
    items, weights = objective.items(), reference_weights(settings)
    weights |= {name: settings.own[name]["weight"] for name in expected if name in settings.own}
    own = [name for name in settings.own if name not in expected]
    if lacking := sorted({*weights} - {*raw}):
        yield held("h", f"every term of the plan is there{when}", f"the term {lacking[0]} is not computed")
        return
    total = torch.stack([weight * expected[name] for name, weight in weights.items()]).sum() if weights else None
    for name, value in expected.items():
        found, wanted = float(raw[name]) / counts[items[name]], float(value.detach())
        whose = " of its package" if name in settings.own else ""
        note = f"{found:.6g}{when}, and {wanted:.6g} by the reference{whose}"
        worst = relative(found, wanted, allowed.near_zero)
        if not worst <= allowed.term:
            note = f"the term {name} is {note}: {_place(compared, name, found, wanted)}"
        yield measured("h", f"the term {name}{when}", worst, allowed.term, note)
    for name in own:
        yield exempt("h", f"the term {name}{when}, and with it the loss", "its package gives no reference")
    if own or total is None:
        return
    found, wanted = float(share.detach()), float(total.detach())
    note = (
        f"the loss is {found:.6g}{when}, and {wanted:.6g} by the reference: are the terms multiplied by their weights?"
    )
    yield measured("h", f"the loss{when}", relative(found, wanted, allowed.near_zero), allowed.term, note)
    worst, parameter = difference(gradients_of(objective, share), gradients_of(objective, total))
    note = f"the gradient of {parameter} is not that of the reference{when}"
    yield measured("h", f"the gradient of the loss{when}", worst, allowed.gradient, note)


def prove_shared(subject: Subject, objective: Objective, teacher: Any) -> Iterator[Proof]:
    """May a stack of the student serve the teacher? Only when it is frozen and, name by name, the teacher's.
    `teacher`: the artifact's model, whole."""
    for stack in () if objective.teacher is None else objective.teacher.shared:
        yield _shared(subject, objective, teacher, stack)


def _shared(subject: Subject, objective: Objective, teacher: Any, stack: Stack) -> Proof:
    prefix = family_of(objective.student).stacks[stack] + "."
    of_student, of_teacher = (
        {name: tensor for name, tensor in model.state_dict().items() if name.startswith(prefix)}
        for model in (objective.student, teacher)
    )
    names = sorted({*of_student, *of_teacher})
    both = of_student.keys() & of_teacher.keys()
    other = [name for name in names if not (name in both and torch.equal(of_student[name], of_teacher[name]))]
    defect, above = None, list(family_of(teacher).stacks)[-1]
    if other:
        defect = f"the student's own {stack} feeds the teacher's {above}, and {other[0]} is not the teacher's"
    elif stack not in subject.settings.freeze:
        defect = f"the student's {stack} feeds the teacher's {above}, and it is trained"
    return held("h", f"the {stack} that serves both is the teacher's", defect)


@contextmanager
def watching(objective: Objective) -> Iterator[dict[str, TermInputs]]:
    """Within it, what each term beyond those of the logits is given is kept."""
    given: dict[str, TermInputs] = {}

    def watched(active: Active) -> Active:
        def keep(inputs: TermInputs, settings: Mapping[str, object]) -> Tensor:
            given[active.name] = inputs
            return active.term.sum(inputs, settings)

        return replace(active, term=replace(active.term, sum=keep))

    before = objective.other_terms
    objective.other_terms = [watched(active) for active in before]
    try:
        yield given
    finally:
        objective.other_terms = before


# --- the place of a defect -----------------------------------------------------------------------------


def _place(compared: Compared, name: str, found: float, wanted: float) -> str:
    """What is different, as near as it can be told."""
    if name == "logits":
        return _of_logits(compared, found, wanted)
    kind, _, part = name.partition("_")
    if kind == "hidden":
        stack: Stack = "encoder" if part == "encoder" else "decoder"
        return _of_layers(compared, name, stack) or _of_mask(compared, stack, found)
    if kind == "attention":
        return _of_maps(compared, name, part) or "its maps are right: is it the mask or the denominator?"
    return "is it the mask, the denominator or the formula?"


def _of_logits(compared: Compared, found: float, wanted: float) -> str:
    term = compared.settings.logits
    assert term is not None
    if term.candidates is not None:
        if term.temperature != 1 and _near(found * term.temperature**2, wanted):
            return f"the factor T² = {term.temperature**2:g} is missing"
        return f"temperature, divergence ({term.divergence}), the vocabulary, or the outcome of all other tokens"
    assert compared.teacher is not None
    everywhere = term.positions == "all"
    valid = compared.student.counted[compared.student.stacks[-1]] if everywhere else has_label(compared.batch["labels"])
    of_student, of_teacher = compared.student.logits[valid].detach(), compared.teacher.logits[valid].detach()
    if term.temperature != 1 and _near(found, float(logits_mean(term, of_student, of_teacher, squared=False))):
        return f"the factor T² = {term.temperature**2:g} is missing"
    padded = of_student.shape[-1] != of_teacher.shape[-1]
    if padded and _near(found, float(logits_mean(term, of_student, of_teacher, padded_with=0.0))):
        sizes = f"{of_student.shape[-1]} of the student, {of_teacher.shape[-1]} of the teacher"
        return f"the vocabularies ({sizes}) are padded with zeros, which have a probability, and not with -inf"
    return f"temperature, divergence ({term.divergence}), or the states of one of the models"


def _of_layers(compared: Compared, name: str, stack: Stack) -> str | None:
    """The first pair of layers whose states are not those that φ pairs."""
    objective, given = compared.settings, compared.given[name]
    assert compared.teacher is not None and given.teacher is not None and objective.hidden is not None
    side = "outputs" if objective.hidden.align == "outputs" else "inputs"
    phi = phi_of(objective, stack)
    of_teacher: Sequence[Tensor] | None = getattr(given.teacher, f"{stack}_layers")
    known: list[Tensor] = getattr(compared.teacher, side)[stack]
    if of_teacher is None or len(of_teacher) != len(phi):
        return f"{0 if of_teacher is None else len(of_teacher)} {stack} layers are compared, φ pairs {len(phi)}"
    for k, j in enumerate(phi):
        if not _equal(of_teacher[k], known[j] if j < len(known) else None):
            what = f"student {stack} layer {k} is not held to the {side[:-1]} of teacher layer {j}"
            really = [i for i, state in enumerate(known) if _equal(of_teacher[k], state)]
            return what + (f" but to that of layer {really[0]}" if really else " but to other states")
    if compared.projections:
        return None
    of_student: Sequence[Tensor] | None = getattr(given.student, f"{stack}_layers")
    mine: list[Tensor] = getattr(compared.student, side)[stack]
    for k, state in enumerate(of_student or ()):
        if not _equal(state, mine[k]):
            return f"what stands for student {stack} layer {k} is not its {side[:-1]}"
    return None


def _of_mask(compared: Compared, stack: Stack, found: float) -> str:
    """Do the same states give the found value with another mask?"""
    objective = compared.settings
    assert compared.teacher is not None and objective.hidden is not None
    right = compared.student.counted[stack]
    number = right.sum()
    masks = {"every position, padding included": torch.ones_like(right)}
    if stack != compared.student.stacks[0] and compared.student.decoder_input_ids is not None:
        masks["the decoder's input"] = compared.student.decoder_input_ids != compared.subject.pad_id
    for name, mask in masks.items():
        for denominator in (number, mask.sum()):
            value = hidden_mean(
                objective, objective.hidden, stack, compared.student, compared.teacher, mask,
                compared.projections.get(stack),
            )  # fmt: skip
            if _near(found, float(value.detach() * mask.sum() / denominator)):
                items = items_of(compared.model, stack).replace("-", " ")
                return f"it is summed over {name}, not over the {items}"
    return "its layers are the right ones: is it the mask, the denominator or the normalisation?"


def _of_maps(compared: Compared, name: str, part: str) -> str | None:
    objective, given = compared.settings, compared.given[name]
    assert compared.teacher is not None and given.teacher is not None
    stack: Stack = "encoder" if part == "encoder_self" else "decoder"
    maps: Sequence[Tensor] | None = getattr(given.teacher, f"{part}_attention")
    known = compared.teacher.maps[part]
    for k, j in enumerate(phi_of(objective, stack)):
        if maps is None or not _equal(maps[k], known[j]):
            return f"student {stack} layer {k} is not held to the attention of teacher layer {j}"
    return None


def _equal(one: Tensor, other: Tensor | None) -> bool:
    if other is None or one.shape != other.shape:
        return False
    return bool((one - other).abs().max() <= SAME_STATES * other.abs().max().clamp(min=1e-9))


def _near(one: float, other: float) -> bool:
    return relative(one, other, 1e-9) <= 1e-4
