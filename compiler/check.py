"""Rules across the fields of a run, one function a rule (E4xx, W4xx). Nothing here looks at the machine.

What needs a model's config.json (depths, widths, families) or the data files is judged in `lower`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from .diagnostics import Reporter, Trail, did_you_mean, listed, quoted
from .experiment import Data, DataSource, Experiment, Generation, Training

Tree = Mapping[str, Any]

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
TASK_METRICS = {
    # ROUGE's tokenizer knows ASCII words only: no measure of a translation
    "summarization": (*ROUGE, "bleu", "chrf"),
    "translation": ("bleu", "chrf"),
    "classification": ("accuracy",),
    "masked-lm": (),
}
TASK_COLUMNS = {
    "summarization": ("source", "target", "id"),
    "translation": ("source", "target", "id"),
    "classification": ("text", "premise", "hypothesis", "label", "id"),
    "masked-lm": ("text", "id"),
}


def check(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """Hold a run to every rule."""
    for rule in CHECKS:
        rule(run, tree, reporter)


# --- what this release runs ------------------------------------------------------------------------


def check_available(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """The language says more than this release runs; what it cannot run is refused, never ignored."""
    for path, what in _not_available(tree):
        reporter.error("E401", path, f"{what} is not available in this release", "remove it for now", at="key")


def _not_available(tree: Tree) -> Iterator[tuple[Trail, str]]:
    if tree["task"] in ("classification", "masked-lm"):
        yield ("task",), f"the task {tree['task']}"
    for name in ("pseudo_labels", "variants", "matrix", "expect"):
        if name in tree:
            yield (name,), f"`{name}`"
    if tree["targets"] != ["original"] and "pseudo_labels" not in tree:
        yield ("targets",), "training on other targets than [original]"
    if len(tree["seeds"]) > 1:
        yield ("seeds",), "more than one seed"
    for name, term in tree["loss"].items():
        weights = (
            [value for key, value in term.items() if isinstance(value, int | float) and key in TERM_WEIGHTS]
            if isinstance(term, Mapping)
            else [term]
        )
        if name != "labels" and any(weights):
            yield ("loss", name), f"the loss term `{name}`"
    models: dict[Trail, Tree] = {("teacher",): tree["teacher"]}
    for stack in ("encoder", "decoder"):
        origin = tree["student"]["init"][stack]
        if isinstance(origin, Mapping) and isinstance(origin["from"], Mapping):
            models[("student", "init", stack, "from")] = origin["from"]
    for path, model in models.items():
        for kind in ("spec", "mlflow"):
            if kind in model:
                yield (*path, kind), f"a model by `{kind}`"


TERM_WEIGHTS = ("weight", "encoder", "decoder", "encoder_self", "decoder_self", "decoder_cross")


# --- task ------------------------------------------------------------------------------------------


def check_metrics(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """Metrics fit the task."""
    known = TASK_METRICS[run.task]
    lists: list[tuple[Trail, tuple[str, ...]]] = [(("evaluation", "metrics"), run.evaluation.metrics)]
    lists += [((*path, "validation", "metrics"), part.validation.metrics) for path, part in _trainings(run)]
    for path, metrics in lists:
        for i, metric in enumerate(metrics):
            if metric not in known and metric != "loss":
                reporter.error(
                    "E402",
                    (*path, i),
                    f"the metric {metric} does not fit the task {run.task}",
                    f"its metrics are {listed(known, 'and')}" if known else "it has only the loss",
                    because=[("task",)],
                )


def check_monitor(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """What decides about stopping is measured while training."""
    for path, part in _trainings(run):
        metrics = part.validation.metrics
        names = [((*path, "stopping", "monitor"), part.stopping.monitor)]
        names += [((*path, "stopping", "retention", name), name) for name in part.stopping.retention or ()]
        for where, name in names:
            if name not in metrics:
                reporter.error(
                    "E403",
                    where,
                    f"{name} decides about stopping, and is not one of `validation.metrics` ({listed(metrics, 'and')})",
                    f"write `validation: {{metrics: [{', '.join([*metrics, name])}]}}`",
                    because=[(*path, "validation", "metrics")],
                )


def check_columns(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """Keys of `data` that belong to another task would be ignored: they are refused."""
    known = TASK_COLUMNS[run.task]
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
    if "labels" in tree["data"] and run.task != "classification":
        reporter.error(
            "E404",
            ("data", "labels"),
            f"the task {run.task} has no labels",
            "remove it; it is for classification",
            at="key",
            because=[("task",)],
        )


def check_columns_differ(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """Source and target are two columns."""
    columns = run.data.columns
    if columns.source == columns.target and columns.source:
        reporter.error(
            "E405",
            ("data", "columns", "target"),
            f"source and target are the same column, {quoted(columns.target)}",
            "name the column of the text that the model has to write",
            because=[("data", "columns", "source"), ("task",)],
        )


# --- data ------------------------------------------------------------------------------------------


def check_sources(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """Keys of a data source that its kind does not have; files that nobody can read."""
    for path, source in data_sources(run.data):
        if source.split is not None and source.files is not None:
            reporter.error(
                "E406",
                (*path, "split"),
                "files have no splits",
                "name the files of the split, or remove `split`",
                at="key",
            )
        for i, name in enumerate(source.files or ()):
            suffix = PurePath(name).suffix.lower()
            if suffix not in FILE_KINDS:
                reporter.error(
                    "E412",
                    (*path, "files", i),
                    f"files of the kind {suffix} are not read" if suffix else "files without a suffix are not read",
                    f"there is {listed(FILE_KINDS, 'and')}",
                )
        if source.builtin is not None and source.split not in (None, *BUILTIN_SPLITS):
            near = did_you_mean(str(source.split), BUILTIN_SPLITS)
            reporter.error(
                "E406",
                (*path, "split"),
                f"{source.builtin} has no split {quoted(source.split)}: it has {_SPLITS}",
                f"did you mean {near}?" if near else "",
            )


FILE_KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
BUILTIN_SPLITS = ("train", "validation", "test")
_SPLITS = listed(BUILTIN_SPLITS, "and")


def check_leakage(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """Nobody tests on what was trained on, unless by mistake."""
    trained: dict[Any, Trail] = {}
    for path, source in data_sources(run.data):
        split = source.split or path[1]
        names: list[Any] = list(source.files or ())
        if not names:
            names = [(source.hub or source.builtin, source.config, source.revision, split)]
        for i, name in enumerate(names):
            where = (*path, "files", i) if source.files else path
            if path[1] == "train":
                trained.setdefault(name, where)
            elif name in trained:
                place = reporter.place(trained[name])
                reporter.warning(
                    "W401",
                    where,
                    f"`{path[1]}` reads what `train` reads",
                    f"it is named in {place.file}:{place.line} too; take another split or file",
                    because=[trained[name]],
                )


# --- training --------------------------------------------------------------------------------------


def check_bounds(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """A training ends."""
    for path, part in _trainings(run):
        stopping = part.stopping
        if all(
            bound is None
            for bound in (
                stopping.max_epochs,
                stopping.max_steps,
                stopping.max_hours,
                stopping.patience,
                stopping.retention,
            )
        ):
            reporter.error(
                "E407",
                (*path, "stopping"),
                "nothing ever stops this training",
                "give one of max_epochs, max_steps, max_hours, patience and retention",
                at="key",
            )


def check_validations(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """Stopping by validation needs validations."""
    for path, part in _trainings(run):
        every, stopping = part.validation.every, part.stopping
        for unit, step, end in (
            ("epochs", every.epochs, stopping.max_epochs),
            ("steps", every.steps, stopping.max_steps),
        ):
            if step is None or end is None:
                continue
            where: Trail = (*path, "validation", "every", unit)
            limit: Trail = (*path, "stopping", f"max_{unit}")
            if step > end:
                reporter.warning(
                    "W402",
                    where,
                    f"the first validation is due after {_number(step)} {unit}, and training ends after {_number(end)}",
                    "validate more often",
                    because=[limit],
                )
            elif stopping.patience is not None and stopping.patience * step >= end:
                reporter.warning(
                    "W402",
                    (*path, "stopping", "patience"),
                    f"a patience of {stopping.patience} never stops a training with a validation every "
                    f"{_number(step)} {unit} and an end after {_number(end)}",
                    "validate more often, or allow more " + unit,
                    because=[where, limit],
                )


def check_warmup(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """The warm-up ends before the training does."""
    for path, part in _trainings(run):
        steps, end = part.optimization.warmup.steps, part.stopping.max_steps
        if steps is not None and end is not None and steps >= end:
            reporter.warning(
                "W403",
                (*path, "training", "warmup", "steps"),
                f"the warm-up takes {steps} steps and the training ends after {end}",
                "shorten the warm-up, for example `warmup: {ratio: 0.1}`",
                because=[(*path, "stopping", "max_steps")],
            )


def check_generation(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """Lengths of generated text are possible."""
    for path, generation in _generations(run):
        low, high = generation.min_length, generation.max_length
        if low is not None and high is not None and low > high:
            reporter.error(
                "E408",
                (*path, "min_length"),
                f"min_length {low} is more than max_length {high}",
                "lower min_length, or raise max_length",
                because=[(*path, "max_length")],
            )


def check_loss(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """Something is learned."""
    for path, part in _trainings(run):
        terms = tree["loss"] if not path else {}
        others = any(name != "labels" for name in terms)
        if part.labels.weight == 0 and not others:
            reporter.error(
                "E409",
                (*path, "loss"),
                "every term of the loss has the weight 0",
                "write `loss: {labels: 1}`",
                at="key",
            )


# --- models ----------------------------------------------------------------------------------------


def check_teacher(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """A teacher from scratch is trained."""
    if run.teacher.architecture is not None and run.teacher.train is None:
        reporter.error(
            "E410",
            ("teacher", "architecture"),
            "a teacher from scratch that is not trained has nothing to teach",
            "add `train: {}` to the teacher: it is then trained first, with default settings",
            at="key",
        )


def check_freeze(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """Random weights are not frozen."""
    student = run.student
    if isinstance(student.freeze, str):
        return
    origins = {"encoder": student.init.encoder, "embeddings": student.init.embeddings}
    origins["positions"] = student.init.embeddings
    for i, part in enumerate(student.freeze):
        if origins[part] == "random":
            init = "encoder" if part == "encoder" else "embeddings"
            reporter.error(
                "E411",
                ("student", "freeze", i),
                f"the {part} would be frozen at random weights",
                f"remove {part} from `freeze`, or copy them: `init: {{{init}: teacher}}`"
                if init == "embeddings"
                else "remove encoder from `freeze`, or copy it: `init: {encoder: {from: teacher}}`",
                because=[("student", "init", init)],
            )


# --- ways through a run ----------------------------------------------------------------------------


def _trainings(run: Experiment) -> list[tuple[Trail, Training]]:
    """The student's training and, if there is one, the teacher's, with their paths."""
    trainings: list[tuple[Trail, Training]] = [((), run.training)]
    if run.teacher.train is not None:
        trainings.append((("teacher", "train"), run.teacher.train))
    return trainings


def _generations(run: Experiment) -> list[tuple[Trail, Generation]]:
    found: list[tuple[Trail, Generation]] = [
        ((*path, "validation", "generation"), part.validation.generation) for path, part in _trainings(run)
    ]
    found.append((("evaluation", "generation"), run.evaluation.generation))
    found.append((("evaluation", "teacher_generation"), run.evaluation.teacher_generation))
    return found


def data_sources(data: Data) -> list[tuple[Trail, DataSource]]:
    """Every data source of a run, with its path."""
    splits: dict[Trail, tuple[DataSource, ...]] = {
        ("data", "train"): data.train,
        ("data", "validation"): data.validation,
        **{("data", "test", name): sources for name, sources in data.test.items()},
    }
    return [((*path, i), source) for path, sources in splits.items() for i, source in enumerate(sources)]


def _number(value: float) -> str:
    return f"{value:g}"


CHECKS = (
    check_available,
    check_metrics,
    check_monitor,
    check_columns,
    check_columns_differ,
    check_sources,
    check_leakage,
    check_bounds,
    check_validations,
    check_warmup,
    check_generation,
    check_loss,
    check_teacher,
    check_freeze,
)
