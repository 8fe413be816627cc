"""What a training proves of itself before its first step: the cheap part of `verify`, on the models that it loaded."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ..data.rows import Rows
from ..execution.context import Context
from ..failure import Failure
from ..messages.terminal import tell
from ..objective.objective import Objective
from ..plan.plan import Stage
from ..signals.read import Signals
from .against_reference import FLOAT32, prove_reference
from .candidates import with_kept
from .equality import plain_teacher, prove_chunks
from .labels import prove_labels
from .own_terms import looks_at_maps
from .proof import Proof, diagnosis
from .reference import Plain
from .signals import prove_signals
from .step import prove_cuts, without_batch_norm
from .subject import FEW, Subject, few_rows

MOST_PARAMETERS = 200_000_000  # of student and teacher together, on the CPU
ABSURD_LOSS = 100.0  # times that of a model that guesses
ABSURD_WEIGHT = 1e6  # fp16 ends at 65,504, and trained weights long before


def prove_quickly(
    stage: Stage, context: Context, objective: Objective, rows: Rows, tokenizer: Any, signals: Signals | None = None
) -> None:
    """Points (b), (c), (h), (j) and, where states are kept, (i), in fp32 on a few rows, on every rank alike, on the
    CPU. The objective is left as it was, in eval mode. Raises `Failure` R31x: it is not what the plan says; R319: the
    student's weights are no trained model's; R325: labels are not what the rows say."""
    teacher = objective.teacher
    models = [objective.student] + ([] if teacher is None else [teacher.model])
    number = sum(parameter.numel() for model in models for parameter in model.parameters())
    if number > MOST_PARAMETERS:
        _log(context, f"{number / 1e6:,.0f}M parameters: not tried before the first step; `distilc verify` does")
        return
    started = time.monotonic()
    subject = Subject(context.plan, stage, stage, context.inputs, {}, few_rows(rows, FEW), tokenizer)
    subject = with_kept(subject, signals)
    dtype = None if teacher is None else next(teacher.model.parameters()).dtype
    try:
        if teacher is not None:
            teacher.model.to("cpu").float()
        objective.eval()
        failure = diagnosis(list(_proofs(subject, objective, signals)))
        if failure is not None:
            failure = absurd_weights(objective, subject.batch()) or failure
    finally:
        if teacher is not None:
            teacher.model.to(dtype)
            teacher.to(context.device)
    if failure is not None:
        raise failure
    seconds = time.monotonic() - started
    _log(context, f"the objective is what the plan says, on {len(subject.rows)} rows ({seconds:.1f} s)")


def _proofs(subject: Subject, objective: Objective, signals: Signals | None) -> Iterator[Proof]:
    if signals is not None and subject.stage.execution.signals:
        yield from prove_signals(subject, objective, signals, subject.rows.chosen)
    yield from prove_labels(subject)
    yield from prove_chunks(subject, objective)
    if without_batch_norm(subject)[0] is subject:
        yield from prove_cuts(subject, objective)
    settings, batch, teacher_plain = subject.settings.objective, subject.batch(), None
    attentions = looks_at_maps(settings)
    if objective.teacher is not None:
        student = Plain(objective.student, batch, attentions=False)
        teacher_plain = plain_teacher(objective.teacher, batch, student, attentions=attentions)
    yield from prove_reference(subject, objective, teacher_plain, FLOAT32)


def _log(context: Context, line: str) -> None:
    if context.is_rank_zero:
        tell(f"verify {context.stage.id}: {line}")


def absurd_weights(objective: Any, batch: dict[str, Tensor]) -> Failure | None:
    """The diagnosis of a student whose weights, before its first step, are beyond those of any training, or whose loss
    is far beyond that of a guess: R319; None: it is not so. `objective`: in eval mode, on the device of `batch`."""
    largest = max(float(parameter.detach().abs().max()) for parameter in objective.student.parameters())
    loss, tokens = objective.label_loss(batch).tolist()
    mean, guess = loss / max(1.0, tokens), math.log(objective.head_terms.student.linear.out_features)
    if largest <= ABSURD_WEIGHT and math.isfinite(mean) and mean <= ABSURD_LOSS * guess:
        return None
    return Failure(
        "R319",
        f"before its first step the student's weights reach {largest:.3g}, and its loss is {mean:.3g} nats a token, "
        f"where a guess has {guess:.2f}: it is made of weights that are no trained model's",
        "were the weights of the model scaled, quantized or converted? nothing was trained; take another checkpoint",
        spec_path="teacher",
    )
