"""How many rows the stages of a plan have: what is in the store was counted, all else is known from its sources."""

from __future__ import annotations

from ..resolve.data_sizes import DataSize, described_size, mixed_size, stored_size
from .plan import Plan, Stage


def rows_of(plan: Plan, stage: Stage) -> Stage:
    """The `data` stage whose rows a `train` stage sees, directly or in a mix, or whose sources a `pseudo-labels` stage
    reads. Stages of other specs' runs have others than the run's own."""
    stages = plan.stages
    if stage.kind == "train":
        found = stages.needed(stage, "data")
        while found.kind != "data":
            found = stages.needed(found, "data")
        return found
    rows = [other for other in stages.values() if other.kind == "data"]
    own = stages["data"]
    return next((found for found in (own, *rows) if found.settings["train"] == stage.settings["train"]), own)


def data_size(plan: Plan, stage: Stage | None = None) -> DataSize | None:
    """The training set of a `data` stage (None: the run's own); None: nothing is known of it."""
    stage = stage or plan.stages["data"]
    stored = stored_size(plan.stores, stage.key)
    return stored or described_size(stage.settings, stage.execution.locations)


def trained_size(plan: Plan, stage: Stage) -> DataSize | None:
    """The rows that a `train` stage sees: those of the data, or a mix with labels, in which every source is
    there once for each kind of target. Labels are taken to be as long as the targets, and none filtered out."""
    size, needed = data_size(plan, rows_of(plan, stage)), plan.stages.needed(stage, "data")
    if size is None or needed.kind != "targets":
        return size
    shares = needed.settings.get("shares", {})
    return mixed_size(size, [shares.get(name, 1.0) for name in needed.settings["targets"]])
