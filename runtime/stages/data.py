"""The `data` stage: texts and a tokenizer -> immutable token rows for every split."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from ..data.classes import write_classes
from ..data.rows import write_rows
from ..data.set_remarks import SetRemarks, in_short, remarks_of
from ..data.sources import read_sources
from ..data.tokenize import Counts, embedded
from ..execution.context import Context
from ..extensions import TASKS
from ..models.load import load_tokenizer, model_folder
from ..models.parts import num_embeddings
from ..plan.plan import Stage
from ..plan.settings import DataSettings, Source
from ..protocol import StageKind


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """Read, check, tokenize and write train, validation and each test set."""
    settings: DataSettings = stage.settings
    folder = model_folder(context.inputs["tokenizer"])
    task, tokenizer = TASKS[settings.task], load_tokenizer(folder)
    embeddings = num_embeddings(folder)
    if (classes := task.classes(settings, folder)) is not None:
        settings = replace(settings, labels=classes.outputs)
        write_classes(context.folder, classes)
    splits: dict[str, tuple[Source, ...]] = {"train": settings.train, "validation": settings.validation}
    splits |= {f"test.{name}": sources for name, sources in settings.test.items()}
    summary: dict[str, Any] = {}
    remarks: list[SetRemarks] = []
    for split, sources in splits.items():
        counts = Counts()
        place = "test" if split == "test.test" else split  # a spec need not name a single test set
        rows = read_sources(
            sources,
            settings.columns,
            place,
            stage.execution.locations,
            context.plan.site.offline,
            classes,
            numbers=task.numbers,
        )
        with context.progress.task(f"tokenizing {split}", None, "examples") as update:
            watched = SetRemarks(place, texts=classes is None and not task.numbers)
            tokens = embedded(task.tokenize(rows, tokenizer, settings, counts, update), tokenizer, embeddings)
            write_rows(context.folder, split, watched.watch(tokens, tokenizer), numbers=task.numbers)
        remarks.append(watched)
        summary[split] = {**asdict(counts), **watched.counts()}
    notices = remarks_of(remarks)
    for notice in notices:
        context.notices.add(notice)
    task.finish_data(context.folder, tokenizer)
    train = summary["train"]
    cut = train["truncated_source"] + train["truncated_target"]
    line = (
        f"{train['examples']:,} training examples, {train['source_tokens'] + train['target_tokens']:,} tokens"
    )
    return {**summary, "line": line + (f", {cut:,} texts cut" if cut else "") + in_short(notices)}


DATA = StageKind(run=run, parallel=False)
