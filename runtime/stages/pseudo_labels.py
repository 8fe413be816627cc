"""The `pseudo-labels` stage: the training sources -> a target for each, by a model or from a file.

labels.jsonl    one record a training row, in the order of the data (labels/record.py)
quality.json    what the labels are like (labels/statistics.py)

All ranks write, shard by shard (generation/shards.py); what is done stays done when the stage is interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice, zip_longest
from typing import Any

from ..data.rows import Rows
from ..data.sources import read_sources
from ..execution.context import Context
from ..failure import Failure
from ..generation.shards import in_order, plan_shards
from ..labels.labelling import label_of, label_shards
from ..labels.prepare import SPLIT, prepare_rows
from ..labels.quality import proxy
from ..labels.record import FILE, Label, parse, read_labels, source_hash
from ..labels.statistics import Statistics, line, metrics
from ..messages.notices import Notice
from ..metrics.words import require_seen
from ..models.load import load_tokenizer, model_folder
from ..plan.plan import Stage
from ..plan.settings import PseudoLabelSettings
from ..protocol import StageKind

SEEN_ROWS = 500  # that say in which script the targets are

Labelled = tuple[Label, str]  # a label and the original target of its row


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """Raises `Failure` R20x (the data), R22x (the model), R32x (the engine), R34x (labels that are none)."""
    settings: PseudoLabelSettings = stage.settings
    if context.is_rank_zero:
        _require_rules(stage, context)
    if settings.source == "labels":
        return _publish(_held_to_rules(stage, context), stage, context) if context.is_rank_zero else {}
    folder = context.scratch / "rows"
    if context.is_rank_zero:
        tokenizer = None
        if settings.source == "model":
            tokenizer = load_tokenizer(model_folder(context.inputs["model"]))
        with context.progress.task("reading the training data", None, "examples") as update:
            prepare_rows(folder, settings, stage.execution.locations, labeller_path(stage), tokenizer, update,
                         context.notices.add, offline=context.plan.site.offline)  # fmt: skip
    context.barrier()
    rows = Rows.open(folder, SPLIT)
    shards = plan_shards(rows.source_lengths)
    account = label_shards(rows, shards, context.scratch / "shards", context)
    if not context.is_rank_zero:
        return {}
    lines = in_order(context.scratch / "shards", shards)
    labels = ((parse(text), rows.raw(i)["target"]) for i, text in enumerate(lines))
    published = _publish(labels, stage, context)
    return {**published, "line": published["line"] + account}


def _require_rules(stage: Stage, context: Context) -> None:
    """Raises `Failure` R357: a rule asks for a score that is the same for all labels of these data."""
    settings: PseudoLabelSettings = stage.settings
    rules = {"rouge2": settings.min_rouge2, "bleu": settings.min_bleu}
    if all(least is None for least in rules.values()):
        return
    rows = read_sources(settings.train, settings.columns, SPLIT, stage.execution.locations, context.plan.site.offline)
    targets = [row["target"] for row in islice(rows, SEEN_ROWS)]
    for metric, least in rules.items():
        if least is not None:
            rule = f"min_{metric}"
            require_seen(metric, targets, settings.scoring, f"`keep: {{{rule}: {least:g}}}`",
                         f"{labeller_path(stage)}.keep.{rule}")  # fmt: skip


def labeller_path(stage: Stage) -> str:
    """Where the spec has the labeller of a stage `labels-NAME` or `written-NAME`."""
    return f"pseudo_labels.{stage.id.rpartition('/')[2].partition('-')[2]}"


def _held_to_rules(stage: Stage, context: Context) -> Iterator[Labelled]:
    """Labels that are there, held to the rules of this stage: another rule does not write them anew."""
    settings: PseudoLabelSettings = stage.settings
    rows = read_sources(settings.train, settings.columns, SPLIT, stage.execution.locations, context.plan.site.offline)
    for row, label in zip_longest(rows, read_labels(context.inputs["labels"])):
        if row is None or label is None or label.source_sha256 != source_hash(row["source"]):
            raise Failure("R347", "the labels are not those of these training data", "compile the spec again",
                          spec_path=labeller_path(stage))  # fmt: skip
        yield label_of(row, label.text, label.score, settings, label.at_limit), row["target"]


def _publish(labels: Iterator[Labelled], stage: Stage, context: Context) -> dict[str, Any]:
    """Write what the artifact holds. Raises `Failure` R345: no label is left."""
    settings: PseudoLabelSettings = stage.settings
    statistics = Statistics()
    first_missing: str | None = None
    with (
        (context.folder / FILE).open("w", encoding="utf-8", newline="\n") as stream,
        context.progress.task("writing the labels", None, "examples") as update,
    ):
        for label, reference in labels:
            if label.text is None and first_missing is None:
                first_missing = label.id
            statistics.add(label, reference)
            stream.write(label.line())
            update(statistics.rows)
    summary = statistics.summary()
    told = line(summary, proxy(settings.task))
    if statistics.ends.told:
        told += f"; {statistics.ends.told}"
    if (notice := statistics.ends.notice(f"{labeller_path(stage)}.generation")) is not None:
        context.notices.add(notice)
    if statistics.kept == 0:
        raise Failure("R345", f"no label is left to be a target: {told}",
                      f"loosen the rules of `keep`; what was written is in {context.folder / FILE}",
                      spec_path=labeller_path(stage))  # fmt: skip
    if first_missing is not None:
        context.notices.add(
            Notice(
                "R348",
                f"{statistics.dropped['missing']:,} of {statistics.rows:,} training rows have no label in the file, "
                f"the first: id {first_missing!r}",
                "they are left out of these targets; label them, too, if that is not meant",
                f"{labeller_path(stage)}.file",
            )
        )
    text = json.dumps(summary, indent=1, sort_keys=True, allow_nan=False)
    (context.folder / "quality.json").write_text(text + "\n", "utf-8")
    context.journal.log(metrics(summary), 0)
    return {**summary, "line": told}


PSEUDO_LABELS = StageKind(run=run, parallel=True)
