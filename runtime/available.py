"""What a plan asks for and this release has no code for yet: refused before anything starts, never ignored."""

from __future__ import annotations

from collections.abc import Iterator

from .failure import Failure
from .plan import Plan, TrainSettings

TASKS = ("summarization", "translation")
FAMILIES = ("bart", "marian", "mbart", "pegasus", "t5")
STAGES = ("tokenizer", "data", "teacher", "student", "train", "evaluate", "benchmark")
TERMS = ("logits", "hidden", "attention", "cosine", "embedding")  # that are not there


def check_available(plan: Plan) -> None:
    """Raises `Failure` R106 with everything that this release cannot run."""
    missing = list(dict.fromkeys(_missing(plan)))
    if missing:
        raise Failure(
            "R106",
            f"{plan.name} cannot be run by this release: it has no code yet for {', '.join(missing)}",
            "`distilc check`, `explain` and `compile` work; nothing was started",
        )


def _missing(plan: Plan) -> Iterator[str]:
    if plan.task not in TASKS:
        yield f"the task {plan.task}"
    for summary in (plan.teacher, plan.student):
        if summary.family not in FAMILIES:
            yield f"training models of the family {summary.family}"
    for stage in plan.stages:
        if stage.kind not in STAGES:
            yield f"stages of the kind {stage.kind}"
        if isinstance(stage.settings, TrainSettings):
            for term in TERMS:
                if getattr(stage.settings.objective, term) is not None:
                    yield f"the loss term {term}"
