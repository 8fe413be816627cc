"""(i): states that are kept of the teacher instead of the teacher: the same loss, the same gradient."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..models.forward import first_stack_digest
from ..models.load import load_model, model_folder
from ..objective.objective import Objective
from ..signals.fill import Filling
from ..signals.read import CANDIDATES, Signals, with_signals
from .proof import Proof, exempt, measured
from .step import GRADIENT_TOLERANCE, LOSS_TOLERANCE
from .subject import Subject, difference, loss_and_gradients, relative

# fp32: of the loss and of a gradient. What was kept in 16 bits is held to what they can say.
TOLERANCES = {
    "fp32": (LOSS_TOLERANCE, GRADIENT_TOLERANCE),
    "fp16": (1e-2, 1e-1),
    "bf16": (5e-2, 3e-1),
}


def prove_signals(
    subject: Subject, objective: Objective, signals: Signals, rows: NDArray[np.int64]
) -> Iterator[Proof]:
    """`rows`: the numbers that the subject's rows have in the signals. The objective is in fp32, its teacher whole."""
    batch = subject.batch()
    kept = with_signals(dict(batch), signals, rows)
    kept = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in kept.items()}
    loss, gradients = loss_and_gradients(objective, batch)
    found, other = loss_and_gradients(objective, kept)
    precision = next(iter(signals.facts.values())).precision
    of_loss, of_gradient = TOLERANCES[precision]
    sides = " and ".join(signals.facts)
    note = f"the loss is {found:.6g} with the kept states of the {sides}, and {loss:.6g} with computed ones"
    yield measured("i", f"kept states ({sides}): the loss", relative(found, loss, 1e-3), of_loss, note)
    worst, parameter = difference(other, gradients)
    note = f"the gradient of {parameter} is another with kept states"
    yield measured("i", f"kept states ({sides}): the gradient", worst, of_gradient, note)


def prove_kept(subject: Subject, objective: Objective) -> Iterator[Proof]:
    """The stages that the plan has for it, run on the subject's rows in fp32, then read."""
    stages = dict(subject.stage.execution.signals)
    if CANDIDATES in subject.stage.needs:
        stages[CANDIDATES] = subject.stage.needs[CANDIDATES]
    if not stages:
        yield exempt("i", "kept states", "none are kept: everything is computed at every step")
        return
    with tempfile.TemporaryDirectory() as place:
        folders = {side: Path(place) / side for side in (*objective.stacks, CANDIDATES) if side in stages}
        filled: dict[str, Path] = {}
        signals = None
        for side, folder in folders.items():
            stage = subject.plan.stage(stages[side])
            model = load_model(model_folder(subject.origins["teacher"]))
            context = replace(subject.context(0, 1), stage=stage, folder=folder, scratch=folder / ".scratch")
            context.scratch.mkdir(parents=True)
            Filling(
                model,
                subject.rows,
                replace(stage.settings, precision="fp32"),
                context,
                pad_id=subject.pad_id,
                encoder=first_stack_digest(model),
                encoder_signals=signals if objective.stacks[0] in stage.execution.signals else None,
            ).run()
            del model
            filled[side] = folder
            signals = Signals(filled, subject.rows)
        assert signals is not None
        yield from prove_signals(subject, objective, signals, np.arange(len(subject.rows)))
