"""Rules about systems of others in the result table."""

from __future__ import annotations

from ..diagnostics.diagnostic import did_you_mean, listed, quoted
from ..spec.file_kinds import BASELINE_KINDS, is_refused, not_read
from ..spec.ways import baseline_path
from ..tasks.task import TASKS
from .context import SpecContext


def check_baselines(spec: SpecContext) -> None:
    """The predictions are of a test set, of a task that has some, in files that are read."""
    run, reporter = spec.run, spec.reporter
    for name, baseline in run.baselines.items():
        if not TASKS[run.task].target:
            reporter.error("E404", ("baselines", name), f"the task {run.task} has no predictions to compare",
                           "remove it", at="key", because=[("task",)])  # fmt: skip
        for test_set, file in baseline.predictions.items():
            path = baseline_path(run, name, test_set)
            if is_refused(file, BASELINE_KINDS):
                reporter.error("E412", path, *not_read(file, BASELINE_KINDS))
            if test_set not in run.data.test:
                near = did_you_mean(test_set, run.data.test)
                hint = f"did you mean {near}?" if near else f"the test sets are {listed(run.data.test, 'and')}"
                reporter.error("E416", path, f"there is no test set {quoted(test_set)}", hint, at="key",
                               because=[("data", "test")])  # fmt: skip
