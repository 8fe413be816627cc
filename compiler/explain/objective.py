"""What a student is trained on, in words: the terms of its loss with their weights, and whose texts are its targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..plan.plan import Plan, Stage

STACKS = {
    "encoder": "of the encoder", "decoder": "of the decoder", "encoder_self": "of the encoder",
    "decoder_self": "of the decoder", "decoder_cross": "of the decoder to the encoder",
}  # fmt: skip
NAMES = {"hidden": "hidden states", "attention": "attention maps"}
UNSAID = {"smoothing": 0.0, "layer_norm": "none", "align": "outputs"}  # what is off


def objective_lines(plan: Plan) -> list[str]:
    """A line for the loss of each phase, and one for the targets where they are not the data's own."""
    lines = [
        f"loss{'' if len(plan.phases) == 1 else f' of phase {i}'}: {' + '.join(_terms(stage.settings['objective']))}"
        for i, stage in enumerate(plan.phases, 1)
    ]
    if (mix := next((stage for stage in plan.stages.values() if stage.kind == "targets"), None)) is not None:
        lines.append(f"targets: {' + '.join(_targets(plan, mix))}")
    return lines


def _terms(objective: Mapping[str, Any]) -> Iterator[str]:
    scheduled = set(objective.get("schedules", {}))
    own = objective["own"]
    for name, term in {**{key: value for key, value in objective.items() if key not in OTHERS}, **own}.items():
        if term is None:
            continue
        settings = term if isinstance(term, Mapping) else {"weight": term}
        weights = {key: value for key, value in settings.items() if key == "weight" or key in STACKS}
        silent = {*weights, *(("temperature",) if settings.get("divergence") == "mse" else ())}
        said = _options({key: value for key, value in settings.items() if key not in silent})
        for key, weight in weights.items():
            path = name if not isinstance(term, Mapping) else f"{name}.{key}"
            if not weight and path not in scheduled:
                continue
            times = "" if weight == 1 else f"{weight:g} x "
            times = "(changing) x " if path in scheduled else times
            where = f" {STACKS[key]}" if key in STACKS else ""
            yield f"{times}{NAMES.get(name, name)}{where}{said}"


OTHERS = ("own", "phi", "schedules")


def _options(settings: Mapping[str, Any]) -> str:
    words = [
        f"{key} {_told(value)}" for key, value in settings.items() if value is not None and UNSAID.get(key) != value
    ]
    return f" ({', '.join(words)})" if words else ""


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(str(item) for item in value.values() if item is not None)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _targets(plan: Plan, mix: Stage) -> Iterator[str]:
    shares = mix.settings.get("shares", {})
    for name in mix.settings["targets"]:
        share, role = shares.get(name, 1), f"labels.{name}"
        times = "" if share == 1 else f"{share:g} x "
        yield f"{times}{name}" + (f" ({_labeller(plan, plan.stages.needed(mix, role))})" if role in mix.needs else "")


def _labeller(plan: Plan, stage: Stage) -> str:
    while "labels" in stage.needs:  # rules over labels that are written
        stage = plan.stages.needed(stage, "labels")
    settings = stage.settings
    if settings["source"] == "file":
        return "a file"
    found, told = plan.stages.needed(stage, "model").model, plan.stages.called(stage.needs["model"])
    if found is not None:
        told = f"{found.family} {found.encoder_layers}-{found.decoder_layers}, {told}"
    generation = settings["generation"]
    beams = "" if generation["beams"] is None else f", {generation['beams']} beams"
    best = f", the best of {generation['n_best']}" if "n_best" in generation else ""
    return f"by {told}: {generation['engine']}{beams}{best}"
