"""(c) and (e): whole optimizer steps by the code of the training loop.

The loop's own `train_step` cuts, collates, counts, accumulates; an engine of this file stands in for DeepSpeed's. Two
ranks are two runs of it, one after the other, whose gradients are averaged as DeepSpeed would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..data.rows import Rows
from ..models.families import family_of, stack_of, stacks
from ..models.forward import last_states, with_inputs
from ..objective.objective import Objective
from ..training.engine import optimizer_of
from ..training.step import Training, train_step
from ..training.step_schedule import Step
from ..training.stopping import Stopping
from .proof import Proof, exempt, held, measured
from .subject import ZERO_BY_NATURE, Gradients, Subject, difference, relative, step_schedule_of_few

LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-3  # fp32
NEAR_ZERO = 0.1  # a term below it is held to it: the divergence of two models that are nearly equal is rounding
ONE_BATCH = 1 << 40  # padded tokens of a micro-batch: everything


class LocalEngine:
    """What the loop asks of an engine, in this process: gradients add up in the parameters."""

    def __init__(self, objective: Objective, optimizer: Any, updates: bool) -> None:
        self.module, self.optimizer, self.updates = objective, optimizer, updates
        self.device = torch.device("cpu")
        self.num_backward = 0

    def __call__(self, batch: Mapping[str, Tensor], factors: Any) -> Any:
        return self.module(batch, factors)

    def set_gradient_accumulation_boundary(self, is_boundary: bool) -> None:
        self.boundary = is_boundary

    def backward(self, loss: Tensor, scale_wrt_gas: bool) -> None:
        self.num_backward += 1
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self) -> None:
        if self.updates:
            self.optimizer.step()


class Kept:
    """What the loop would log of a step."""

    def __init__(self) -> None:
        self.terms: dict[str, float] = {}

    def add(self, step: Step, terms: Mapping[str, Tensor]) -> None:
        self.terms = {name: float(value) for name, value in terms.items()}


def run_step(
    subject: Subject, objective: Objective, *, rank: int = 0, world: int = 1, micro_batch_tokens: int = ONE_BATCH,
    updates: bool = False,
) -> tuple[dict[str, float], Gradients, int]:  # fmt: skip
    """(term -> its share of the step's mean, gradients, number of micro-batches) of one step over all rows."""
    settings = subject.settings
    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    engine = LocalEngine(objective, optimizer_of(parameters, settings, on_cpu=False), updates)
    rows: Rows = subject.rows
    step_schedule = step_schedule_of_few(settings, rows)
    training = Training(
        settings=settings,
        context=subject.context(rank, world),
        objective=objective,
        engine=engine,
        source=subject.inputs["model"],
        tokenizer=subject.tokenizer,
        rows=rows,
        validation_rows=rows,
        step_schedule=step_schedule,
        stopping=Stopping(settings.stopping, {}, step_schedule.num_steps),
        micro_batch_tokens=micro_batch_tokens,
        signals=subject.candidates,
    )
    kept = Kept()
    step = Step(1, 0, np.arange(len(rows)), 0.0, False)
    for parameter in parameters:
        parameter.grad = None
    with torch.random.fork_rng(devices=[]):
        train_step(training, step, cast(Any, kept))
    found = {
        name: parameter.grad.clone()
        for name, parameter in objective.named_parameters()
        if parameter.requires_grad and parameter.grad is not None
    }
    for parameter in parameters:
        parameter.grad = None
    return kept.terms, found, engine.num_backward


def without_batch_norm(subject: Subject) -> tuple[Subject, str]:
    """The subject without what depends on the other rows of a batch by its definition, and what that is."""
    hidden = subject.settings.objective.hidden
    if hidden is None or hidden.layer_norm != "per-batch":
        return subject, ""
    settings = replace(subject.settings, objective=replace(subject.settings.objective, hidden=None))
    without = replace(subject, stage=replace(subject.stage, settings=settings))
    return without, "layer_norm per-batch looks at the whole batch"


def prove_cuts(subject: Subject, objective: Objective) -> Iterator[Proof]:
    """(c), in fp32, without dropout."""
    subject, left_out = without_batch_norm(subject)
    if left_out:
        yield exempt("c", "the term hidden", left_out)
        objective = subject.objective()
        if not objective.terms:
            return
    whole, gradients, _ = run_step(subject, objective)
    parts, accumulated, number = run_step(subject, objective, micro_batch_tokens=1)
    yield from _same(f"1 micro-batch and {number}", whole, gradients, parts, accumulated)
    ranks = [run_step(subject, objective, rank=rank, world=2, micro_batch_tokens=ONE_BATCH) for rank in (0, 1)]
    summed = {name: sum(terms[name] for terms, _, _ in ranks) for name in whole}
    zero = torch.zeros(())
    averaged = {
        name: (ranks[0][1].get(name, zero) + ranks[1][1].get(name, zero)) / 2 for name in {**ranks[0][1], **ranks[1][1]}
    }
    yield from _same("1 rank and 2 (one after the other)", whole, gradients, summed, averaged)


def _same(
    claim: str, whole: Mapping[str, float], gradients: Gradients, parts: Mapping[str, float], accumulated: Gradients
) -> Iterator[Proof]:
    found = [(relative(parts[name], value, NEAR_ZERO), name) for name, value in whole.items()]
    worst, term = max(found)
    note = f"the term {term} is {parts[term]:.6g} in parts and {whole[term]:.6g} as a whole"
    yield measured("c", f"{claim}: the terms", worst, LOSS_TOLERANCE, note)
    worst, parameter = difference(accumulated, gradients)
    note = (
        f"the gradient of {parameter} depends on how the step is cut: is each micro-batch weighted by its share of "
        "the step's items?"
    )
    yield measured("c", f"{claim}: the gradient", worst, GRADIENT_TOLERANCE, note)


def prove_step(subject: Subject, objective: Objective) -> Iterator[Proof]:
    """(e), in train mode, with dropout, one update by the plan's optimizer. The weights are put back."""
    yield from _modes(subject, objective)
    teacher = None if objective.teacher is None else objective.teacher.model
    before = {name: tensor.detach().clone() for name, tensor in objective.state_dict().items()}
    weights = {} if teacher is None else {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    _, gradients, _ = run_step(subject, objective, updates=True)
    if teacher is not None:
        changed = [name for name, tensor in teacher.state_dict().items() if not torch.equal(tensor, weights[name])]
        changed += [name for name, parameter in teacher.named_parameters() if parameter.grad is not None]
        note = f"{changed[0]} of the teacher changed" if changed else None
        yield held("e", "a step leaves the teacher as it was", note)
    after = objective.state_dict()
    frozen = frozen_names(objective.student, subject.settings.freeze)
    moved = sorted(name for name in frozen if not torch.equal(after[f"student.{name}"], before[f"student.{name}"]))
    note = f"{moved[0]} is frozen and was changed" if moved else None
    yield held("e", "a step leaves what is frozen as it was", note)
    idle = set() if any("logits" in active.term.needs for active in objective.terms) else _of_head(subject, objective)
    without = sorted(
        name
        for name, parameter in objective.named_parameters()
        if parameter.requires_grad
        and name not in idle
        and not name.endswith(ZERO_BY_NATURE)
        and (name not in gradients or not bool(gradients[name].any()))
    )
    note = f"{without[0].removeprefix('student.')} is trained and gets no gradient" if without else None
    yield held("e", "everything that is trained gets a gradient", note)
    if idle:
        yield exempt("e", "a gradient for the head", "no term looks at what it predicts")
    if any(name.endswith(ZERO_BY_NATURE) for name in gradients):
        yield exempt("e", "a gradient for the biases of key projections", "zero by nature: softmax does not see them")
    objective.load_state_dict(before)
    objective.eval()


def _of_head(subject: Subject, objective: Objective) -> set[str]:
    """What is trained of the student and changes its logits alone, not the states below."""
    named = {name: one for name, one in objective.student.named_parameters() if one.requires_grad}
    states = last_states(objective.student, with_inputs(objective.student, subject.batch()))
    found = torch.autograd.grad(states.sum(), list(named.values()), allow_unused=True)
    return {f"student.{name}" for name, gradient in zip(named, found, strict=True) if gradient is None}


def _modes(subject: Subject, objective: Objective) -> Iterator[Proof]:
    """What is in train mode and what has a gradient, after `train()`."""
    freeze = subject.settings.freeze
    objective.train()
    if objective.teacher is not None:
        model = objective.teacher.model
        training = [
            name or "the whole model"
            for name, module in model.named_modules()
            if module.training and not isinstance(module, nn.ModuleList)  # a list has no mode; an emptied one is new
        ]
        trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        yield held(
            "e", "the teacher is in eval mode", f"{training[0]} of the teacher is in train mode" if training else None
        )
        yield held("e", "the teacher has no gradient", f"{trained[0]} of the teacher is trained" if trained else None)
    student = objective.student
    names = frozen_names(student, freeze)
    thawed = [name for name, parameter in student.named_parameters() if name in names and parameter.requires_grad]
    note = f"{thawed[0]} is trained, and the plan freezes {', '.join(freeze)}" if thawed else None
    yield held("e", "what is frozen is not trained", note)
    fixed = [name for name, parameter in objective.projections.named_parameters() if not parameter.requires_grad]
    note = f"the projection {fixed[0]} is not trained: it stays as it was drawn" if fixed else None
    yield held("e", "projections are trained", note)
    number = sum(parameter.numel() for parameter in student.parameters() if parameter.requires_grad)
    planned = subject.settings.trainable_parameters
    note = None if number == planned else f"{number:,} parameters are trained, the plan says {planned:,}"
    yield held("e", "as many parameters are trained as planned", note)
    for stack in (stack for stack in stacks(student) if stack in freeze):
        awake = [name for name, module in stack_of(student, stack).named_modules() if module.training]
        note = f"{awake[0] or 'the whole stack'} of the frozen {stack} is in train mode" if awake else None
        yield held("e", f"the frozen {stack} is in eval mode", note)


def frozen_names(model: nn.Module, freeze: tuple[str, ...]) -> set[str]:
    """The parameters that the plan freezes, by their names alone."""
    family = family_of(model)
    prefixes = [f"{path}." for stack, path in family.stacks.items() if stack in freeze]
    if "embeddings" in freeze:
        prefixes.append(f"{family.shared}.")
        prefixes += [f"{family.stacks[stack]}.{family.embed_tokens}." for stack in family.stacks]
    if "positions" in freeze and family.positions is not None:
        prefixes += [f"{family.stacks[stack]}.{family.positions}." for stack in family.stacks]
    named = dict(model.named_parameters(remove_duplicate=False))
    frozen = {id(parameter) for name, parameter in named.items() if name.startswith(tuple(prefixes))}
    return {name for name, parameter in named.items() if id(parameter) in frozen}
