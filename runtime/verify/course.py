"""(g) What a training does beside its loss: the rate, the size and the update of its steps, once more from the plan.

The loss itself, what is frozen and what the student is made of are proved by what they do in (h), (e) and (f)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from ..plan.settings import TrainSettings
from ..training.engine import optimizer_of
from ..training.step_schedule import StepSchedule
from .proof import Proof, exempt, held, measured
from .subject import Subject

RATE_TOLERANCE, UPDATE_TOLERANCE = 1e-9, 1e-9  # relative; in float64
FAR = 1 << 20  # a step of a training that nobody knows the end of


def prove_course(subject: Subject) -> Iterator[Proof]:
    """Raises nothing of its own. Of the whole training, not of the few rows alone."""
    settings, step_schedule = subject.settings, subject.step_schedule
    yield _rates(settings, step_schedule)
    yield held("g", "the steps have the size of the plan", _size(subject, step_schedule))
    yield held("g", "the training is as long as the plan lets it be", _length(settings, step_schedule))
    yield from _update(settings)
    config = subject.stage.execution.deepspeed or {}
    found, asked = config.get("gradient_clipping"), settings.gradient_clipping
    defect = None if (found or None) == (asked or None) else f"it clips at {found}, the plan says {asked}"
    yield held("g", "gradients are clipped as the plan says", defect)
    kind = subject.stage.settings.precision
    on = [name for name in ("bf16", "fp16") if config.get(name, {}).get("enabled")]
    defect = None if on == [name for name in ("bf16", "fp16") if name == kind] else f"{on or 'fp32'} instead of {kind}"
    yield held("g", "the engine computes in the precision of the plan", defect)


def _rates(settings: TrainSettings, step_schedule: StepSchedule) -> Proof:
    last = step_schedule.num_steps
    warmup = settings.warmup_steps
    if warmup is None:
        warmup = round((settings.warmup_ratio or 0.0) * last)
    steps = {min(last, step) for step in (1, (warmup + 1) // 2, warmup, warmup + 1, (warmup + last) // 2, last)}
    worst, at = 0.0, 1
    for step in sorted(step for step in steps if step >= 1):
        expected = _rate(settings, warmup, last, step)
        off = abs(step_schedule.learning_rate(step) - expected) / settings.learning_rate
        worst, at = max((worst, at), (off, step))
    note = (
        f"the learning rate of step {at} is {step_schedule.learning_rate(at):.6g}, and "
        f"{_rate(settings, warmup, last, at):.6g} by the plan (training.schedule, training.warmup)"
    )
    return measured("g", "the learning rate of each step", worst, RATE_TOLERANCE, note)


def _rate(settings: TrainSettings, warmup: int, last: int, step: int) -> float:
    """A line from 0 (step 0) to the peak (the step after the warm-up), then the schedule, to 0 just after the end."""
    if step <= warmup:
        return float(np.interp(step, [0, warmup + 1], [0.0, settings.learning_rate]))
    left = float(np.interp(step, [warmup + 1, max(last, warmup + 1) + 1], [1.0, 0.0]))
    factors = {"constant": 1.0, "linear": left, "cosine": math.sin(left * math.pi / 2) ** 2}
    if settings.schedule == "inverse-sqrt":
        return settings.learning_rate * math.sqrt(max(warmup, 1) / max(warmup, 1, step - 1))
    return settings.learning_rate * factors[settings.schedule]


def _size(subject: Subject, step_schedule: StepSchedule) -> str | None:
    """Of the first epoch: each row once, and no step larger than the plan says, to within a row of tokens."""
    rows, batch = subject.rows.whole, subject.settings.batch
    tokens = rows.source_lengths + rows.target_lengths
    steps = [step.ids for step in step_schedule.steps(after=0)]
    if len(steps) < step_schedule.num_steps:  # the epoch is whole
        times = np.bincount(np.concatenate(steps), minlength=len(rows))
        if (times != 1).any():
            return f"row {int(np.flatnonzero(times != 1)[0])} is {int(times[times != 1][0])} times in an epoch"
    limit = batch.size if batch.unit == "examples" else 1.05 * batch.size + int(tokens.max())
    sizes = [len(ids) if batch.unit == "examples" else int(tokens[ids].sum()) for ids in steps]
    return None if max(sizes) <= limit else f"a step has {max(sizes):,} {batch.unit}, the plan says {batch.size:,}"


def _length(settings: TrainSettings, step_schedule: StepSchedule) -> str | None:
    stopping, last = settings.stopping, step_schedule.num_steps
    if stopping.max_steps is not None and last > stopping.max_steps:
        return f"it has {last:,} steps, the plan says at most {stopping.max_steps:,}"
    if stopping.max_epochs is None:
        return None if last == stopping.max_steps or last > FAR else f"it ends after {last:,} steps"
    done = step_schedule.steps(after=last - 1)[0].epochs_done
    per_epoch = len(step_schedule.steps(after=0))
    if done > stopping.max_epochs + 1 / per_epoch:
        return f"it sees the data {done:.2f} times, the plan says {stopping.max_epochs:g}"
    if last != stopping.max_steps and done < stopping.max_epochs - 1e-6:
        return f"it ends after {done:.2f} epochs, the plan says {stopping.max_epochs:g}"
    return None


def _update(settings: TrainSettings) -> Iterator[Proof]:
    """Two updates of a parameter by the plan's optimizer against AdamW's equations (arXiv 1711.05101), in float64."""
    chosen, rate = settings.optimizer, settings.learning_rate
    if chosen.name != "adamw":
        yield exempt("g", "the update of the optimizer", f"{chosen.name} is that of transformers")
        return
    gradients = torch.tensor([[0.3, -2e-3, 1e-7], [-0.1, 5e-3, 2e-7]], dtype=torch.float64)
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    expected = parameter.detach().clone()
    optimizer = optimizer_of([parameter], settings, on_cpu=False)
    first, second = torch.zeros_like(expected), torch.zeros_like(expected)
    for number, gradient in enumerate(gradients, start=1):
        parameter.grad = gradient.clone()
        optimizer.step()
        first = chosen.betas[0] * first + (1 - chosen.betas[0]) * gradient
        second = chosen.betas[1] * second + (1 - chosen.betas[1]) * gradient**2
        mean, spread = (m / (1 - beta**number) for m, beta in zip((first, second), chosen.betas, strict=True))
        expected = expected - rate * (mean / (spread.sqrt() + chosen.eps) + chosen.weight_decay * expected)
    worst = float((parameter.detach() - expected).abs().max() / max(rate, 1e-30))
    note = "betas, eps or weight_decay of the optimizer are not those of the plan (training.optimizer)"
    yield measured("g", "the update of the optimizer", worst, UPDATE_TOLERANCE, note)
