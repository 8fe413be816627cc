"""What a plan asks for and this release has no code for yet: refused before anything starts, never ignored."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from .extensions import declared_facts, entries
from .failure import Failure
from .plan.plan import Plan
from .plan.settings import ConvertSettings, TrainSettings
from .protocol import Need

COMPUTED: frozenset[Need] = frozenset(
    {"logits", "hidden", "attention", "embeddings", "last-state", "teacher", "phi"}
)  # what a term can be given

PACKAGES = {"onnx": ("onnxruntime", "onnx")}  # that an engine needs beside those of every installation


def check_available(plan: Plan) -> None:
    """Raises `Failure` R106 with everything that this release cannot run."""
    missing = list(dict.fromkeys(_missing(plan)))
    if missing:
        raise Failure(
            "R106",
            f"{plan.name} cannot be run by this release: it has no code yet for {', '.join(missing)}",
            "`distilc check`, `explain` and `compile` work; nothing was started",
        )


def check_packages(plan: Plan) -> None:
    """Raises `Failure` R323: a form in which the student is served needs packages that are not installed."""
    for stage in plan.stages:
        if isinstance(stage.settings, ConvertSettings):
            require_packages(stage.settings.format)


def require_packages(engine: str) -> None:
    """Raises `Failure` R323: an engine lacks packages, which come with an extra of its name."""
    missing = [name for name in PACKAGES.get(engine, ()) if find_spec(name) is None]
    if missing:
        raise Failure(
            "R323",
            f"the engine {engine} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            "installed",
            f"python -m pip install 'distilc[{engine}]'",
            spec_path="evaluation.exports",
        )


def _missing(plan: Plan) -> Iterator[str]:
    if plan.task not in entries("tasks"):
        yield f"the task {plan.task}"
    installed = {name for stage in plan.stages for name in getattr(stage.settings, "extensions", ())}
    for summary in (plan.teacher, plan.student):
        if summary.family not in entries("families") and f"families.{summary.family}" not in installed:
            yield f"training models of the family {summary.family}"
    for stage in plan.stages:
        if stage.kind not in entries("stages"):
            yield f"stages of the kind {stage.kind}"
        if isinstance(stage.settings, TrainSettings):
            for term in stage.settings.objective.terms:
                if term not in stage.settings.objective.own and term not in entries("terms"):
                    yield f"the loss term {term}"
            for term in stage.settings.objective.own:
                if term in entries("terms") and (needs := {*declared_facts("terms", term)["needs"]} - COMPUTED):
                    yield f"loss terms that look at {' and '.join(sorted(needs))} ({term})"
