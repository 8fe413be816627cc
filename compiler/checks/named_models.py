"""Rules about runs of other specs that are named for models."""

from __future__ import annotations

from ..diagnostics.diagnostic import listed, quoted, shown_path
from ..tasks.task import TASKS, WRITING
from .context import NamedContext


def check_work(context: NamedContext) -> bool:
    """Does the model do what it is wanted for? Layers alone are taken from any.

    Reports E436 (another task, or other classes), W431 (another language or prefix).
    """
    run, reporter, path, named = context
    assert named.run is not None
    other, shown = named.run.experiment, shown_path(named.run.spec_file)
    if path[0] == "student":
        return True
    trained_on = path == ("teacher",) and run.teacher.train is not None
    if other.task != run.task and not (trained_on and {other.task, run.task} <= {*WRITING}):
        reporter.error(
            "E436",
            (*path, "spec"),
            f"{shown} trains a model for {other.task}, and this run is {run.task}",
            f"name a spec whose task is {run.task}",
            because=[("task",)],
        )
        return False
    if TASKS[run.task].has_labels and other.data.labels != run.data.labels:
        theirs, ours = (listed(data.labels or ("?",), "and") for data in (other.data, run.data))
        reporter.error(
            "E436",
            (*path, "spec"),
            f"{shown} trains a model with the classes {theirs}, in this order; the labels here are {ours}",
            f"write `labels: [{', '.join(other.data.labels or ())}]` into `data`",
            because=[("data", "labels")],
        )
        return False
    for name in ("source_language", "target_language", "prefix"):
        theirs, ours = getattr(other.data, name), getattr(run.data, name)
        if theirs != ours and not trained_on:
            reporter.warning(
                "W431",
                (*path, "spec"),
                f"{shown} trains its model with data.{name} {quoted(theirs)}, and here it is {quoted(ours)}",
                f"write `{name}: {theirs}` into `data`" if theirs else f"leave {name} out of `data`",
                because=[("data", name)],
            )
    return True
