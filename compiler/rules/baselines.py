"""Rules about systems of others in the result table."""

from __future__ import annotations

from pathlib import PurePath

from ..diagnostics import Reporter, Trail, did_you_mean, listed, quoted
from ..experiment import Experiment
from .data import FILE_KINDS, not_read
from .ways import Tree

KINDS = (".txt", *FILE_KINDS)


def check_baselines(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """The predictions are of a test set, of a task that has some, in files that are read."""
    for name, baseline in run.baselines.items():
        if run.task == "masked-lm":
            reporter.error("E404", ("baselines", name), f"the task {run.task} writes nothing that could be compared",
                           "remove it", at="key", because=[("task",)])  # fmt: skip
        for test_set, file in baseline.predictions.items():
            path = file_path(run, name, test_set)
            if PurePath(file).suffix.lower() not in KINDS:
                reporter.error("E412", path, *not_read(file, KINDS))
            if test_set not in run.data.test:
                near = did_you_mean(test_set, run.data.test)
                hint = f"did you mean {near}?" if near else f"the test sets are {listed(run.data.test, 'and')}"
                reporter.error("E416", path, f"there is no test set {quoted(test_set)}", hint, at="key",
                               because=[("data", "test")])  # fmt: skip


def file_path(run: Experiment, name: str, test_set: str) -> Trail:
    """Where a spec names the file of a test set: by it, or, where there is one file, alone."""
    path: Trail = ("baselines", name, "predictions")
    return (*path, test_set) if run.baselines[name].by_test_set else path
