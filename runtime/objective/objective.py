"""The objective of a plan: what one micro-batch contributes to the loss of its optimizer step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from ..failure import Failure
from ..models.families import counted, has_label, items_of, stacks
from ..models.forward import last_states, use_eager_attention, with_inputs
from ..models.freeze import set_train_mode
from ..models.head import Head
from ..plan.settings import LayerMaps, ObjectiveSettings
from ..protocol import CandidateTokens, Items, ModelOutputs, Stack, Term, TermInputs
from ..signals.candidates import IDS, LOG_PROBABILITIES
from ..signals.read import CANDIDATES, signal
from .assembly import Active, Now, assemble, everywhere, scheduled_setting
from .head import HeadTerms
from .projection import Projections
from .states import States
from .teacher import Teacher
from .terms import labels_term

OF_LOGITS = frozenset({"logits", "teacher"})  # terms that need no more are computed a chunk of positions at a time
Factors = Mapping[Items, float]


class Objective(nn.Module):
    """The student and the terms that train it.

    forward(batch, factors) takes input_ids (B, S), attention_mask (B, S), labels (B, T) of the tokens that are written,
    (B, S) of those that are read, or (B,) of the examples (`protocol.Task.collate`), and for each kind of item what a
    term's sum over the micro-batch is multiplied by: 1 / (items of the whole step), times the number of ranks by which
    DeepSpeed divides. Returns (the weighted sum of the terms, with a gradient; term -> its raw sum over the items of
    the micro-batch, without). Frozen parts stay in eval mode (no dropout) whatever
    `train()` is told. What the terms look at is computed by `states`.
    """

    def __init__(
        self,
        student: nn.Module,
        settings: ObjectiveSettings,
        freeze: tuple[str, ...],
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.student: Any = student
        self._now: Now = {}
        self.stacks = stacks(student)
        self.terms = assemble(settings, self._now, self._items)
        self._everywhere = everywhere(settings)
        self.freeze = freeze
        self.head_terms = HeadTerms(Head(student))
        self.logit_terms = [active for active in self.terms if active.term.needs <= OF_LOGITS]
        self.other_terms = [active for active in self.terms if not active.term.needs <= OF_LOGITS]
        self._asked = None if settings.logits is None else settings.logits.candidates
        needs = frozenset().union(*(active.term.needs for active in self.terms))
        if "teacher" in needs:
            if teacher is None:
                raise Failure("R306", "a term of the loss looks at the teacher, and there is none")
            if "attention" in needs:
                use_eager_attention(student, teacher.model, scores=_compares_scores(settings, self.terms))
        align = "outputs" if settings.hidden is None else settings.hidden.align
        phi = _compared(settings.phi, self.stacks, teacher)
        self.states = States(student, teacher, needs, phi, align, frozen=freeze)
        self.projections = Projections(student, teacher, needs)

    @property
    def teacher(self) -> Teacher | None:
        return self.states.teacher

    def train(self, mode: bool = True) -> Objective:
        """train() for what is trained; what is frozen stays in eval, and the teacher always."""
        super().train(mode)
        if mode:
            set_train_mode(self.student, self.freeze)
        return self

    def forward(self, batch: Mapping[str, Tensor], factors: Factors) -> tuple[Tensor, dict[str, Tensor]]:
        labels, source_mask = batch["labels"], batch["attention_mask"]
        found = self.states.of(batch)
        valid = counted(self.student, self.stacks[-1], batch) if self._everywhere else has_label(labels)
        rows = self.head_terms.student.rows(found.student, valid, batch)  # (N, d)
        teacher_rows = None
        if found.teacher is not None:
            assert self.teacher is not None
            teacher_rows = self.teacher.rows(found.teacher, valid, batch)
        candidates = self.candidates(batch)
        kept = None if candidates is None else candidates[valid]
        share, raw = self._logit_terms(rows, labels[valid], teacher_rows, kept, factors)
        if self.other_terms:
            inputs = TermInputs(
                student=self.projections(found.student_outputs),
                teacher=found.teacher_outputs,
                labels=labels,
                source_mask=source_mask.bool(),
                phi=self.states.phi,
                masks={stack: counted(self.student, stack, batch) for stack in self.stacks},
            )
            for active in self.other_terms:
                factor = self._factor(active, factors)
                value = active.sum(inputs)
                share = share + (factor * value if factor else zero_with_grad(inputs.student))
                raw[active.name] = value.detach()
        return share, raw

    # --- the terms of the logits -------------------------------------------------------------------

    def _logit_terms(
        self,
        rows: Tensor,
        labels: Tensor,
        teacher_rows: Tensor | None,
        candidates: CandidateTokens | None,
        factors: Factors,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """rows (N, d), labels (N,), teacher_rows (N, d'), candidates of (N,)."""
        if not self.logit_terms:
            return (rows.float() * 0.0).sum(), {}

        def of_teacher(start: int, end: int) -> Tensor | None:
            if teacher_rows is None or not any("teacher" in active.term.needs for active in self.logit_terms):
                return None
            assert self.teacher is not None
            return self.teacher.logits(teacher_rows[start:end])

        def terms(start: int, end: int, logits: Tensor, teacher_logits: Tensor | None) -> tuple[Tensor, Tensor]:
            kept = None if candidates is None else candidates[start:end]
            alone = teacher_logits is None and kept is None
            inputs = TermInputs(
                student=ModelOutputs(logits=logits),
                teacher=None if alone else ModelOutputs(logits=teacher_logits, candidates=kept),
                labels=labels[start:end],
                source_mask=labels.new_ones((1, 1), dtype=torch.bool),
                phi={},
            )
            values = [active.sum(inputs) for active in self.logit_terms]
            weights = [self._factor(active, factors) for active in self.logit_terms]
            counting = [w * value for w, value in zip(weights, values, strict=True) if w]
            weighted = torch.stack(counting or [zero_with_grad(inputs.student)]).sum()
            return weighted, torch.stack([value.detach() for value in values])

        with self._teachers_head(teacher_rows):
            share, sums = self.head_terms(rows, terms, len(self.logit_terms), torch.is_grad_enabled(), of_teacher)
        return share, {active.name: value for active, value in zip(self.logit_terms, sums, strict=True)}

    def candidates(self, batch: Mapping[str, Tensor]) -> CandidateTokens | None:
        """The teacher's candidates in a batch, of (B, T); None: all tokens are compared. Raises `Failure` R335: it has
        none, or not so many."""
        asked = self._asked
        if asked is None:
            return None
        ids = batch.get(signal(CANDIDATES, IDS))  # (B, T, K)
        number = 0 if ids is None else ids.shape[-1]
        if ids is None or number != asked.number:
            raise Failure(
                "R335",
                f"the loss compares {asked.number} candidates of the teacher at each token, and {number} were kept",
                "make them again: --redo the candidates stage",
                spec_path="loss.logits.candidates",
            )
        return CandidateTokens(
            kind=asked.kind,
            vocabulary=asked.vocabulary,
            ids=ids.long(),
            log_probabilities=batch[signal(CANDIDATES, LOG_PROBABILITIES)],
        )

    def _teachers_head(self, teacher_rows: Tensor | None) -> AbstractContextManager[None]:
        """Within it the teacher's head is whole. Ranks differ in rows and so in chunks, hence not one by one."""
        asked = teacher_rows is not None and any("teacher" in active.term.needs for active in self.logit_terms)
        return self.teacher.whole_head() if asked and self.teacher is not None else nullcontext()

    def _items(self, term: Term) -> Items:
        if term.stack is None:
            return term.items
        stack = self.stacks[-1] if term.stack == "last" else term.stack
        return items_of(self.student, stack) if stack in self.stacks else term.items

    def _factor(self, active: Active, factors: Factors) -> float:
        return active.weight * factors[active.items]

    def go_to(self, scheduled: Mapping[str, float]) -> None:
        """From now on the numbers that change have these values (path in the loss -> value; `StepSchedule.scheduled`),
        and one that is not named what stands in the plan."""
        for values in self._now.values():
            values.clear()
        for path, value in scheduled.items():
            name, setting = scheduled_setting(path)
            self._now[name][setting] = value

    # --- what others ask -----------------------------------------------------------------------------

    @torch.no_grad()
    def label_loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """For validation: (2,) float64, the unsmoothed cross-entropy summed over label tokens (of numbers the squared
        error), and their number."""
        labels = batch["labels"]
        states = last_states(self.student, with_inputs(self.student, batch))
        valid = has_label(labels)
        rows = self.head_terms.student.rows(states, valid, batch)
        wanted = labels[valid]

        def terms(start: int, end: int, logits: Tensor, teacher_logits: Tensor | None) -> tuple[Tensor, Tensor]:
            loss = labels_term(logits, wanted[start:end], smoothing=0.0)
            return loss, loss.reshape(1)

        _, sums = self.head_terms(rows, terms, 1, False)
        return torch.stack([sums[0].double(), valid.sum().double()])

    def weights(self) -> dict[str, float]:
        """Term -> weight, as it is now."""
        return {active.name: active.weight for active in self.terms}

    def paths(self) -> dict[str, str]:
        """Term -> the path of its weight in the loss ("logits.weight", "cosine")."""
        return {active.name: active.path for active in self.terms}

    def items(self) -> dict[str, Items]:
        """Term -> what its mean is over."""
        return {active.name: active.items for active in self.terms}


def _compares_scores(settings: ObjectiveSettings, terms: Sequence[Active]) -> bool:
    """Are attention maps those before the softmax? Raises `Failure` R306: another term expects the others."""
    if settings.attention is None or settings.attention.maps == "probabilities":
        return False
    for active in terms:
        if "attention" in active.term.needs and not active.name.startswith("attention_"):
            raise Failure(
                "R306",
                f"the term {active.name} looks at attention maps after the softmax, and `attention` at those before it",
                "remove one of the two, or write `maps: probabilities`",
                spec_path="loss.attention",
            )
    return True


def _compared(
    maps: LayerMaps | None, of_student: Sequence[Stack], teacher: Teacher | None
) -> dict[Stack, Sequence[int]]:
    """φ of the stacks that have one. With one encoder for both models there is nothing to compare in it."""
    shared = () if teacher is None else teacher.shared
    found = {} if maps is None else {stack: getattr(maps, stack) for stack in of_student if stack not in shared}
    return {stack: layers for stack, layers in found.items() if layers is not None}


def zero_with_grad(outputs: ModelOutputs) -> Tensor:
    """0, with a gradient of exactly 0 for everything that a term looks at. What a term of weight 0 adds: 0 times its
    own gradient would be no number where that is none, and without a gradient a parameter that this term alone
    reaches would keep the last one it had in a sharded optimizer."""
    total: Any = 0.0
    for field in fields(outputs):
        found = getattr(outputs, field.name)
        for tensor in (found,) if isinstance(found, Tensor) else found or ():
            total = total + tensor[:0].float().sum()
    return torch.as_tensor(total)


def factors_of(counts: Mapping[Items, int], world: int) -> dict[Items, float]:
    """What `Objective` multiplies sums by: `counts` are the items of the whole step, on all ranks."""
    return {items: world / count if count else 0.0 for items, count in counts.items()}
