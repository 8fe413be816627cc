"""Rules that need the number of rows: where that is known, so is where a training ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..diagnostics.diagnostic import Reporter, Trail
from ..estimates.effort import training_steps
from ..resolve.data_sizes import DataSize, described_size, mixed_size, share_rows
from ..resolve.objective import batch_settings
from .context import DataContext, PlanContext

TRAINED_AT: Mapping[str, Trail] = {"train": ("training",), "teacher-train": ("teacher", "train", "training")}


def check_known_end(context: PlanContext) -> None:
    """Reports W403: a warm-up that the spec asks for is longer than a training whose end is known with its data."""
    for id, (settings, size) in context.trainings.items():
        if context.reporter.written((*TRAINED_AT[id], "warmup", "steps")):
            _check_warmup(id, settings, size(), context.reporter)


def check_described_end(context: DataContext) -> None:
    """The same of a spec alone: its trainings on data whose rows are known without opening a file."""
    run, reporter, data = context
    if any(source["kind"] == "files" for source in data["train"]):
        return
    shares = [run.target_shares.get(name, 1.0) for name in run.targets]
    for id, training, of in (
        ("train", run.training, shares),
        ("teacher-train", run.teacher.train, [1.0]),
    ):
        path = (*TRAINED_AT[id], "warmup", "steps")
        if training is None or not reporter.written(path) or training.optimization.warmup is None:
            continue
        size = described_size(data, {})
        settings = {
            "warmup_steps": training.optimization.warmup.steps,
            "stopping": asdict(training.stopping),
            "batch": batch_settings(training.batch),
        }
        _check_warmup(id, settings, None if size is None else mixed_size(size, of), reporter)


def _check_warmup(id: str, settings: Mapping[str, Any], size: DataSize | None, reporter: Reporter) -> None:
    warmup = settings["warmup_steps"]
    steps = None if size is None else training_steps(settings, size)
    if size is None or steps is None or warmup is None or warmup < steps:
        return
    if settings["stopping"]["max_steps"] == steps:
        return  # what max_steps says was looked at before
    about = "about " if size.origin == "files" else ""
    reporter.warning(
        "W403",
        (*TRAINED_AT[id], "warmup", "steps"),
        f"the warm-up takes {warmup:,} steps and the training ends after {about}{steps:,}: {size.rows:,} rows, "
        f"{settings['batch']['size']:,} {settings['batch']['unit']} a step",
        "shorten the warm-up, for example `warmup: {ratio: 0.1}`",
        because=[("data",), ("targets",), *((*TRAINED_AT[id][:-1], key) for key in ("batch", "stopping"))],
    )


def check_shares(context: PlanContext) -> None:
    """Reports W583: a share of the targets draws none of the rows, whose number is known."""
    shares = context.run.target_shares
    size = context.data() if shares else None
    if size is None:
        return
    for i, name in enumerate(context.run.targets):
        if name in shares and not share_rows(size.rows, shares[name]):
            about = "about " if size.origin == "files" else ""
            context.reporter.warning(
                "W583",
                ("targets", i),
                f"a share of {shares[name]:g} selects no row of `{name}`: there are {about}{size.rows:,}",
                f"write a share of {1 / size.rows:.1g} or more, or remove `{name}`",
            )
