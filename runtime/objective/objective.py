"""The objective of a plan: what one micro-batch contributes to the loss of its optimizer step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from ..failure import Failure
from ..models.families import STACKS, layers
from ..models.forward import Taken, decode, encode, taking, use_eager_attention
from ..models.freeze import set_train_mode
from ..plan import ObjectiveSettings
from ..protocol import CandidateTokens, Items, ModelOutputs, Stack, TermInputs
from ..signals.candidates import IDS, LOG_PROBABILITIES
from ..signals.layout import layer_name
from ..signals.read import CANDIDATES, signal
from .assembly import Active, Now, assemble, scheduled_setting
from .head import Head, HeadTerms
from .projection import Projections
from .teacher import Teacher
from .terms import IGNORED, labels_term

OF_LOGITS = frozenset({"logits", "teacher"})  # terms that need no more are computed a chunk of positions at a time
Factors = Mapping[Items, float]


class Objective(nn.Module):
    """The student and the terms that train it.

    forward(batch, factors) takes input_ids (B, S), attention_mask (B, S), labels (B, T), and for each kind of
    item what a term's sum over the micro-batch is multiplied by: 1 / (items of the whole step), times the number
    of ranks by which DeepSpeed divides. Returns (the weighted sum of the terms, with a gradient; term -> its raw
    sum over the items of the micro-batch, without). Frozen parts stay in eval mode (no dropout) whatever
    `train()` is told, and a frozen encoder runs without a graph. States that were kept of the teacher may be in
    the batch (`signals.read`); what they are of is not run.
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
        self.terms = assemble(settings, self._now)
        self.freeze = freeze
        self.head_terms = HeadTerms(Head(student))
        self._teacher = [teacher]  # a list: it is no part of what is trained
        self._of_logits = [active for active in self.terms if active.term.needs <= OF_LOGITS]
        self._others = [active for active in self.terms if not active.term.needs <= OF_LOGITS]
        self._needs = frozenset().union(*(active.term.needs for active in self.terms))
        self._asked = None if settings.logits is None else settings.logits.candidates
        self._align = "outputs" if settings.hidden is None else settings.hidden.align
        self._phi: dict[Stack, Sequence[int]] = {}
        if settings.phi is not None:
            maps = {stack: getattr(settings.phi, stack) for stack in STACKS}
            self._phi = {stack: found for stack, found in maps.items() if found is not None}
        if teacher is not None and teacher.shares_encoder:
            self._phi.pop("encoder", None)  # one encoder for both: there is nothing to compare
        if "teacher" in self._needs:
            if teacher is None:
                raise Failure("R306", "a term of the loss looks at the teacher, and there is none")
            if "attention" in self._needs:
                use_eager_attention(student, teacher.model)
        self.projections = Projections(student, teacher, self._needs)

    @property
    def teacher(self) -> Teacher | None:
        return self._teacher[0]

    def train(self, mode: bool = True) -> Objective:
        """train() for what is trained; what is frozen stays in eval, and the teacher always."""
        super().train(mode)
        if mode:
            set_train_mode(self.student, self.freeze)
        return self

    def forward(self, batch: Mapping[str, Tensor], factors: Factors) -> tuple[Tensor, dict[str, Tensor]]:
        labels, source_mask = batch["labels"], batch["attention_mask"]
        decoder_input_ids = self.student.prepare_decoder_input_ids_from_labels(labels=labels)  # (B, T)
        states, ours, encoder_states = self._student(batch, decoder_input_ids)
        theirs, teacher_states = ModelOutputs(), None
        if "teacher" in self._needs:
            teacher, given = self.teacher, encoder_states.detach()
            assert teacher is not None
            theirs, teacher_states = teacher.run(lambda: self._teachers(batch, decoder_input_ids, given))
        valid = labels != IGNORED
        rows = states[valid]  # (N, d)
        teacher_rows = None if teacher_states is None else teacher_states[valid]
        candidates = self.candidates(batch)
        kept = None if candidates is None else candidates[valid]
        share, raw = self._logit_terms(rows, labels[valid], teacher_rows, kept, factors)
        if self._others:
            inputs = TermInputs(
                student=self.projections(ours),
                teacher=theirs,
                labels=labels,
                source_mask=source_mask.bool(),
                phi=self._phi,
            )
            for active in self._others:
                factor = self._factor(active, factors)
                value = active.sum(inputs)
                share = share + (factor * value if factor else nothing_of(inputs.student))
                raw[active.name] = value.detach()
        return share, raw

    # --- the two models ----------------------------------------------------------------------------

    def _student(
        self, batch: Mapping[str, Tensor], decoder_input_ids: Tensor
    ) -> tuple[Tensor, ModelOutputs, Tensor]:
        """(decoder states, what the terms look at, encoder states)."""
        model, frozen = self.student, "encoder" in self.freeze
        with ExitStack() as stack:
            encoder, decoder = (self._taken(stack, model, side, own=True) for side in STACKS)
            if (kept := batch.get(signal("encoder"))) is not None:
                encoder_states = kept.to(next(model.parameters()).dtype)
            else:
                with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
                    encoder_states = encode(model, batch["input_ids"], batch["attention_mask"], self._maps(encoder))
            states = decode(
                model, decoder_input_ids, encoder_states, batch["attention_mask"], self._maps(decoder)
            )
        return states, self._outputs(encoder, decoder, states, None), encoder_states

    @torch.no_grad()
    def _teachers(
        self, batch: Mapping[str, Tensor], decoder_input_ids: Tensor, encoder_states: Tensor
    ) -> tuple[ModelOutputs, Tensor]:
        """`encoder_states`: the student's, which serve where they are the teacher's own."""
        teacher = self.teacher
        assert teacher is not None
        encoder, decoder = (self._kept(batch, stack) for stack in STACKS)
        states = batch.get(signal("decoder"))
        with ExitStack() as stack:
            if not teacher.shares_encoder and (states is None or encoder is None):
                encoder = self._taken(stack, teacher.model, "encoder", own=False)
                encoder_states = teacher.encode(batch["input_ids"], batch["attention_mask"], self._maps(encoder))
            if states is None or decoder is None:
                decoder = self._taken(stack, teacher.model, "decoder", own=False)
                states = teacher.decode(
                    decoder_input_ids, encoder_states, batch["attention_mask"], self._maps(decoder)
                )
        return self._outputs(encoder or Taken(), decoder, states, self._phi), states

    def idle_stacks(self, states: Collection[str]) -> tuple[Stack, ...]:
        """The teacher's stacks that are not run when every batch has these states."""
        if signal("decoder") not in states or not self._all_kept("decoder", states):
            return ()
        return ("encoder", "decoder") if self._all_kept("encoder", states) else ("decoder",)

    def _kept(self, batch: Mapping[str, Tensor], stack: Stack) -> Taken | None:
        """What the batch has of the layers that φ names; None: not all of them."""
        if not self._all_kept(stack, batch):
            return None
        return Taken(outputs={layer: batch[signal(stack, layer_name(layer))] for layer in self._compared(stack)})

    def _all_kept(self, stack: Stack, states: Collection[str]) -> bool:
        if self._align == "inputs" or self._needs & {"attention", "embeddings"}:
            return False  # of these nothing is kept
        return all(signal(stack, layer_name(layer)) in states for layer in self._compared(stack))

    def _compared(self, stack: Stack) -> set[int]:
        """The teacher's layers of a stack whose states a term looks at."""
        return set(self._phi.get(stack, ())) if "hidden" in self._needs else set()

    def _taken(self, context: ExitStack, model: Any, stack: Stack, *, own: bool) -> Taken:
        """What is taken of a stack while it runs: of the student (`own`) its first layers, one for each entry of
        φ; of the teacher the layers that φ names."""
        found: Sequence[int] = ()
        if "hidden" in self._needs and stack in self._phi:
            phi = self._phi[stack]
            found = range(len(phi)) if own else sorted(set(phi))
        outputs, inputs = (found, ()) if self._align == "outputs" else ((), found)
        embeddings = (0,) if "embeddings" in self._needs and stack == "decoder" and len(layers(model, stack)) else ()
        return context.enter_context(taking(model, stack, inputs=(*inputs, *embeddings), outputs=tuple(outputs)))

    def _maps(self, taken: Taken) -> Taken | None:
        return taken if "attention" in self._needs else None

    def _outputs(
        self, encoder: Taken, decoder: Taken, states: Tensor, phi: Mapping[Stack, Sequence[int]] | None
    ) -> ModelOutputs:
        """What the terms look at; with `phi`, of the teacher: entry k is the one for student layer k."""

        def paired(taken: Taken, stack: Stack) -> tuple[Tensor, ...] | None:
            if "hidden" not in self._needs or stack not in self._phi:
                return None
            kept = taken.outputs if self._align == "outputs" else taken.inputs
            order = range(len(self._phi[stack])) if phi is None else phi[stack]
            return tuple(kept[index] for index in order)

        def maps(found: tuple[Tensor, ...], stack: Stack) -> tuple[Tensor, ...] | None:
            if "attention" not in self._needs or stack not in self._phi or not found:
                return None
            return tuple(found[index] for index in (range(len(found)) if phi is None else phi[stack]))

        return ModelOutputs(
            encoder_layers=paired(encoder, "encoder"),
            decoder_layers=paired(decoder, "decoder"),
            encoder_self_attention=maps(encoder.self_attention, "encoder"),
            decoder_self_attention=maps(decoder.self_attention, "decoder"),
            decoder_cross_attention=maps(decoder.cross_attention, "decoder"),
            decoder_embeddings=decoder.inputs.get(0) if "embeddings" in self._needs else None,
            last_state=states if "last-state" in self._needs else None,
        )

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
        if not self._of_logits:
            return (rows.float() * 0.0).sum(), {}

        def theirs(start: int, end: int) -> Tensor | None:
            if teacher_rows is None or not any("teacher" in active.term.needs for active in self._of_logits):
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
            values = [active.sum(inputs) for active in self._of_logits]
            weights = [self._factor(active, factors) for active in self._of_logits]
            counting = [w * value for w, value in zip(weights, values, strict=True) if w]
            weighted = torch.stack(counting or [nothing_of(inputs.student)]).sum()
            return weighted, torch.stack([value.detach() for value in values])

        with self._teachers_head(teacher_rows):
            share, sums = self.head_terms(rows, terms, len(self._of_logits), torch.is_grad_enabled(), theirs)
        return share, {active.name: value for active, value in zip(self._of_logits, sums, strict=True)}

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
        asked = teacher_rows is not None and any("teacher" in active.term.needs for active in self._of_logits)
        return self.teacher.whole_head() if asked and self.teacher is not None else nullcontext()

    def _factor(self, active: Active, factors: Factors) -> float:
        return active.weight * factors[active.items]

    def go_to(self, scheduled: Mapping[str, float]) -> None:
        """From now on the numbers that change have these values (path in the loss -> value; `Course.scheduled`), and
        one that is not named what stands in the plan."""
        for values in self._now.values():
            values.clear()
        for path, value in scheduled.items():
            name, setting = scheduled_setting(path)
            self._now[name][setting] = value

    # --- what others ask -----------------------------------------------------------------------------

    @torch.no_grad()
    def label_loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """For validation: (2,) float64, the unsmoothed cross-entropy summed over label tokens, and their number."""
        labels = batch["labels"]
        decoder_input_ids = self.student.prepare_decoder_input_ids_from_labels(labels=labels)
        encoder_states = encode(self.student, batch["input_ids"], batch["attention_mask"])
        states = decode(self.student, decoder_input_ids, encoder_states, batch["attention_mask"])
        valid = labels != IGNORED
        wanted = labels[valid]

        def terms(start: int, end: int, logits: Tensor, teacher_logits: Tensor | None) -> tuple[Tensor, Tensor]:
            loss = labels_term(logits, wanted[start:end], smoothing=0.0)
            return loss, loss.reshape(1)

        _, sums = self.head_terms(states[valid], terms, 1, False)
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


def nothing_of(outputs: ModelOutputs) -> Tensor:
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
