"""Rules about the task: metrics, columns and keys that belong to another one."""

from __future__ import annotations

from ..diagnostics.diagnostic import Trail, did_you_mean, listed, quoted
from ..extensions.built_in import measured_metrics
from ..extensions.installed import installed, usable_metrics
from ..spec.ways import TEXT_ONLY, trainings
from ..tasks.task import HAVE_LABELS, TASKS
from .context import SpecContext


def check_metrics(spec: SpecContext) -> None:
    """Metrics fit the task."""
    run, reporter = spec.run, spec.reporter
    known = (*measured_metrics(run.task), *usable_metrics(run.task))
    broken = [name for name in installed().names["metrics"] if installed().problem("metrics", name)]
    lists: list[tuple[Trail, tuple[str, ...]]] = [(("evaluation", "metrics"), run.evaluation.metrics)]
    lists += [((*path, "validation", "metrics"), part.validation.metrics) for path, part in trainings(run)]
    for path, metrics in lists:
        for i, metric in enumerate(metrics):
            if metric not in known and metric != "loss" and metric not in broken:
                reporter.error(
                    "E402",
                    (*path, i),
                    f"the metric {metric} does not fit the task {run.task}",
                    f"its metrics are {listed(known, 'and')}" if known else "it has only the loss",
                    because=[("task",)],
                )


def check_monitor(spec: SpecContext) -> None:
    """What decides about stopping is measured in validations (E403)."""
    run, reporter = spec.run, spec.reporter
    for path, part in trainings(run):
        metrics = part.validation.metrics
        names = [((*path, "stopping", "monitor"), part.stopping.monitor)]
        names += [((*path, "stopping", "retention", name), name) for name in part.stopping.retention or ()]
        for where, name in names:
            if name not in metrics and (name in (*measured_metrics(run.task), *usable_metrics(run.task), "loss")):
                reporter.error(
                    "E403",
                    where,
                    f"{name} decides about stopping, but is not in `validation.metrics` ({listed(metrics, 'and')})",
                    f"write `validation: {{metrics: [{', '.join([*metrics, name])}]}}`",
                    because=[(*path, "validation", "metrics")],
                    at="key" if "retention" in where else "value",
                )


def check_columns(spec: SpecContext) -> None:
    """Keys of `data` that belong to another task would be ignored: they are refused."""
    run, tree, reporter = spec.run, spec.tree, spec.reporter
    known = TASKS[run.task].columns
    for name in tree["data"]["columns"]:
        if name not in known:
            reporter.error(
                "E404",
                ("data", "columns", name),
                f"the task {run.task} has no column `{name}`",
                f"its columns are {listed(known, 'and')}",
                at="key",
                because=[("task",)],
            )
    if "labels" in tree["data"] and not TASKS[run.task].has_labels:
        reporter.error(
            "E404",
            ("data", "labels"),
            f"the task {run.task} has no labels",
            f"remove it; it is for {listed(HAVE_LABELS, 'and')}",
            at="key",
            because=[("task",)],
        )


def check_text_columns(spec: SpecContext) -> None:
    """A classification reads one text or a pair, not both."""
    run, tree, reporter = spec.run, spec.tree, spec.reporter
    columns, task = tree["data"]["columns"], TASKS[run.task]
    if task.pair is not None and task.source in columns and {*task.pair} & set(columns):
        reporter.error(
            "E417",
            ("data", "columns", "text"),
            "`text` is for one text, `premise` and `hypothesis` are for a pair",
            "remove `text`, or the other two",
            at="key",
            because=[("task",)],
        )


def check_masking(spec: SpecContext) -> None:
    """The percentages of masked and replaced tokens are at most 100 together (E418)."""
    run, reporter = spec.run, spec.reporter
    masking = run.data.masking
    if masking is not None and masking.masked + masking.random > 100:
        reporter.error(
            "E418",
            ("data", "masking", "random"),
            f"{masking.masked:g} % masked and {masking.random:g} % random add up to more than 100 %",
            f"write at most {100 - masking.masked:g}",
            because=[("data", "masking", "masked")],
        )


def check_columns_differ(spec: SpecContext) -> None:
    """Source and target are two columns."""
    run, reporter = spec.run, spec.reporter
    columns = run.data.columns
    if columns.source == columns.target and columns.source:
        reporter.error(
            "E405",
            ("data", "columns", "target"),
            f"source and target are the same column, {quoted(columns.target)}",
            "name the column of the text that the model has to write",
            because=[("data", "columns", "source"), ("task",)],
        )


def check_task_keys(spec: SpecContext) -> None:
    """Sections of another task would be ignored: they are refused."""
    run, reporter = spec.run, spec.reporter
    foreign: list[Trail] = []
    if not TASKS[run.task].writes_texts:
        foreign += TEXT_ONLY
    if not TASKS[run.task].has_masking:
        foreign.append(("data", "masking"))
    for path in foreign:
        if reporter.written(path):
            reporter.error(
                "E404",
                path,
                f"`{reporter.spelled(path)}` has no effect for the task {run.task}",
                "remove it",
                at="key",
                because=[("task",)],
            )


def check_expected(spec: SpecContext) -> None:
    """A published score on a test set names one that there is."""
    run, reporter = spec.run, spec.reporter
    for who, expectation in run.expect.items():
        for name in expectation.scores:
            test_set, dot, metric = name.rpartition(".")
            if metric in measured_metrics() and metric not in run.evaluation.metrics:
                fitting = measured_metrics(run.task)
                measure = f"write `evaluation: {{metrics: [{', '.join([*run.evaluation.metrics, metric])}]}}`"
                if metric not in fitting:
                    metrics = f"its metrics are {listed(fitting, 'and')}" if fitting else "it has only the loss"
                    measure = f"remove it: {metric} does not fit the task {run.task}; {metrics}"
                reporter.warning(
                    "W416",
                    ("expect", who, name),
                    f"there is a published score for {metric}, which is not measured",
                    measure,
                    at="key",
                    because=[("evaluation", "metrics"), ("task",)],
                )
            if dot and test_set not in run.data.test:
                near = did_you_mean(test_set, run.data.test)
                reporter.error(
                    "E416",
                    ("expect", who, name),
                    f"there is no test set {quoted(test_set)}",
                    f"did you mean {near}?" if near else f"the test sets are {listed(run.data.test, 'and')}",
                    at="key",
                    because=[("data", "test")],
                )
