"""The `baseline` stage: what a system of others wrote -> its scores on the test sets.

metrics.json  {test set: {metric: {value, low, high, ...}}}, as of an evaluation
"""

from __future__ import annotations

import json
from typing import Any

from ..data.alignment import align
from ..data.files import located
from ..data.rows import Rows, references_of
from ..data.text_files import Layout, Texts, read_texts
from ..execution.context import Context
from ..metrics.score import score
from ..plan.plan import Stage
from ..plan.settings import BaselineSettings, PredictionFile
from ..protocol import StageKind

USUAL = ("prediction", "predictions", "hypothesis", "text")  # what the column of texts is usually called


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """Raises `Failure` R201, R202, R204, R206, R361, R362 (the file), R363 (its rows are not the test set's)."""
    settings: BaselineSettings = stage.settings
    name = stage.id.removeprefix("baseline-")
    scores: dict[str, Any] = {}
    with context.progress.task(f"scoring {name}", len(settings.predictions), "test sets") as update:
        for test_set, file in settings.predictions.items():
            rows = Rows.open(context.inputs["data"], f"test.{test_set}")
            references, all_of = _references(rows, test_set, settings.limit)
            spec_path = f"baselines.{name}.predictions"
            path = located(file.fingerprint, stage.execution.locations, "the file of predictions", spec_path)
            predictions = read_texts(path, _layout(file, name), file.fingerprint)
            if predictions.ids is None and not all_of:
                predictions = _first(predictions, len(references))
            aligned = align(predictions, references, all_of=all_of, spec_path=spec_path)
            scores[test_set] = score(settings.metrics, aligned.predictions, aligned.references, settings.scoring)
            update(len(scores))
    text = json.dumps(scores, indent=1, sort_keys=True, allow_nan=False)
    (context.folder / "metrics.json").write_text(text + "\n", "utf-8")
    values = {name: {metric: entry["value"] for metric, entry in found.items()} for name, found in scores.items()}
    prefix = "" if len(values) == 1 else "{}/"
    for test_set, found in values.items():
        named = {f"eval/{prefix.format(test_set)}{metric}": value for metric, value in found.items()}
        context.journal.log(named, 0)
    line = "; ".join(", ".join(f"{metric} {value:.2f}" for metric, value in found.items()) for found in values.values())
    return {"metrics": values, "line": line}


def _layout(file: PredictionFile, name: str) -> Layout:
    columns = f"baselines.{name}.columns"
    return Layout(file.text, USUAL, f"{columns}.text", file.id, f"{columns}.id", spec_path=columns)


def _references(rows: Rows, test_set: str, limit: int | None) -> tuple[Texts, bool]:
    """The references of the examples that count, and whether these are all of the test set."""
    count = len(rows) if limit is None else min(limit, len(rows))
    records = [rows.raw(i) for i in range(count)]
    name = f"data.test.{test_set}" if test_set != "test" else "data.test"
    places = [f"{name} row {i}" for i in range(1, count + 1)]
    ids = [record["id"] for record in records]
    # Without a column of ids rows are numbered: no other file has these names.
    numbered = "test" if test_set == "test" else rows.split
    own = None if all(id == f"{numbered}-{i}" for i, id in enumerate(ids)) else ids
    several = {i: references_of(record) for i, record in enumerate(records) if "references" in record}
    references = Texts(name, [record["target"] for record in records], places, own, None, several)
    return references, count == len(rows)


def _first(texts: Texts, count: int) -> Texts:
    """The first rows: an evaluation of some examples takes the first ones of the test set."""
    if len(texts) < count:
        return texts
    return Texts(texts.name, texts.texts[:count], texts.places[:count], None, texts.column)


BASELINE = StageKind(run=run, parallel=False)
