"""All proofs of a plan, in an order in which each model is in memory as seldom as possible."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator

import torch

from ..failure import Failure
from ..objective.objective import Objective
from .against_reference import prove_reference, prove_shared
from .candidates import with_computed
from .copies import prove_copies
from .course import prove_course
from .equality import in_float64, prove_chunks, prove_identity, prove_padding
from .labels import prove_labels
from .own_terms import looks_at_maps
from .proof import POINTS, Proof
from .reference import Plain
from .signals import prove_kept
from .step import prove_cuts, prove_step
from .subject import Subject

Report = Callable[[str], None]


def prove(subject: Subject, report: Report = lambda line: None) -> list[Proof]:
    """Every proof, by its point. `report` is told what is being proved. Raises `Failure`: nothing can be proved."""
    subject = with_computed(subject)
    found = [
        *_guarded("j", lambda: prove_labels(subject), report),
        *_guarded("f", lambda: prove_copies(subject), report),
        *_of_objective(subject, report),
        *_guarded("g", lambda: prove_course(subject), report),
        *_guarded("a", lambda: prove_identity(subject), report),
    ]
    return sorted(found, key=lambda proof: proof.point)


def _of_objective(subject: Subject, report: Report) -> Iterator[Proof]:
    objective = subject.objective()
    yield from _guarded("e", lambda: prove_step(subject, objective), report)
    yield from _guarded("b", lambda: prove_chunks(subject, objective), report)
    yield from _guarded("c", lambda: prove_cuts(subject, objective), report)
    yield from _guarded("d", lambda: prove_padding(subject, objective), report)
    yield from _guarded("i", lambda: prove_kept(subject, objective), report)
    yield from _guarded("h", lambda: reference_proofs(subject, objective), report)
    gc.collect()


def reference_proofs(subject: Subject, objective: Objective) -> Iterator[Proof]:
    """In float64; the reference has a teacher of its own, from the artifact."""
    if not subject.has_teacher:
        yield from prove_reference(subject, in_float64(objective), None)
        return
    model, batch = subject.teacher(), subject.batch()
    yield from prove_shared(subject, objective, model)
    attentions = looks_at_maps(subject.settings.objective)
    with torch.no_grad():
        start = Plain(objective.student, batch, attentions=False).decoder_input_ids
        teacher = Plain(model.double(), batch, attentions=attentions, decoder_input_ids=start)
    del model
    yield from prove_reference(subject, in_float64(objective), teacher)


def _guarded(point: str, proofs: Callable[[], Iterator[Proof]], report: Report) -> Iterator[Proof]:
    """What breaks while it is being proved is not proved."""
    report(POINTS[point][0])
    try:
        yield from proofs()
    except Failure:
        raise
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        traceback.print_exc()
        lines = str(error).strip().splitlines() or ["no message"]
        yield Proof(point=point, claim=POINTS[point][0], state="failed", note=f"{type(error).__name__}: {lines[0]}")
