"""What a training is asked to do, as its key has it: the terms of its loss, φ where one pairs layers, its batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..extensions.terms import stacks_of, weight_stacks
from ..spec.experiment import Batch, Loss, Method
from .layers import Layers


def objective_settings(
    loss: Loss, phi: Mapping[str, Layers | None] | None, vocabulary: int | None = None
) -> dict[str, Any]:
    """The terms of a loss, None for one that is off. φ only where a term pairs layers, and only of the stacks
    that it pairs: it changes no other result. `schedules` only where something changes; the number in its place
    is then the larger of its ends. `vocabulary`: the tokens that student and teacher have, of which candidates are."""
    used: dict[str, list[int] | None] | None = None
    if loss.needs_phi and phi is not None:
        paired = frozenset[str]().union(*(stacks_of(name, term) for name, term in loss.terms.items()))
        maps = {stack: phi.get(stack) for stack in paired}
        used = {stack: list(found.layers) if (found := maps.get(stack)) else None for stack in ("encoder", "decoder")}
    own = {name: dict(term) for name, term in loss.own.items()}
    settings = asdict(loss)
    schedules = {path: _schedule(schedule) for path, schedule in settings.pop("schedules").items()}
    if loss.logits is not None:
        candidates = settings["logits"].pop("candidates")
        if candidates is not None:
            settings["logits"]["candidates"] = {**candidates, "vocabulary": vocabulary}
    if loss.attention is not None and loss.attention.maps == "probabilities":
        del settings["attention"]["maps"]
    if phi is not None and phi.get("encoder") is None:
        # An encoder without φ is the teacher's own: nothing of it is compared.
        for term in loss.terms:
            of_encoder = [weight for weight, stack in weight_stacks(term).items() if stack == "encoder"]
            if of_encoder and term not in own:
                settings[term] = {**settings[term], **dict.fromkeys(of_encoder, 0.0)}
                for weight in of_encoder:
                    schedules.pop(f"{term}.{weight}", None)
    return {**settings, "own": own, "phi": used, **({"schedules": schedules} if schedules else {})}


def method_settings(method: Method) -> dict[str, Any]:
    """A way to train with its settings. `schedules` only where something changes; the number in its place is then the
    larger of its ends."""
    schedules = {name: _schedule(asdict(schedule)) for name, schedule in method.schedules.items()}
    found = {"name": method.name, "settings": dict(method.settings)}
    return {**found, **({"schedules": schedules} if schedules else {})}


def _schedule(schedule: Mapping[str, Any]) -> dict[str, Any]:
    """A step has no end; any other that gives none ends with the training."""
    end = schedule["end"]
    if end is None and schedule["shape"] != "step":
        end = {"epochs": None, "steps": None, "ratio": 1.0}
    return {
        "initial": schedule["from_"],
        "final": schedule["to"],
        "shape": schedule["shape"],
        "begin": schedule["begin"],
        "end": end,
    }


def batch_settings(batch: Batch) -> dict[str, Any]:
    """What a step has."""
    by_examples = batch.examples is not None
    return {"unit": "examples" if by_examples else "tokens", "size": batch.examples if by_examples else batch.tokens}
