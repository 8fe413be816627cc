"""The `evaluate` stage: a model and token rows -> scores on the test sets (or on validation), and its answers.

metrics.json                  {test set: {metric: {value, low, high, ...}}, "baselines": {NAME: {test set: ...}}}
predictions.<test set>.jsonl  of tasks whose answers are texts: {id, source, reference, prediction}, in the order of the
                              data; of several references a list; what a classification adds: `tasks/classified.py`
"""

from __future__ import annotations

import json
from typing import Any

from ..data.rows import Rows, split_names
from ..execution.context import Context
from ..extensions import TASKS
from ..plan.plan import Stage
from ..plan.settings import EvaluateSettings
from ..protocol import StageKind


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """Every rank answers its share of each set; rank 0 scores and writes.

    Raises `Failure` R300 (asked to stop), R22x (the model), R32x (the engine)."""
    settings: EvaluateSettings = stage.settings
    evaluation = TASKS[settings.task].evaluation(stage, context)
    result: dict[str, Any] = {}
    baselines: dict[str, dict[str, Any]] = {}
    splits = [name for name in split_names(context.inputs["data"]) if _is_asked(name, settings.split)]
    for split in splits:
        name = split.removeprefix("test.")
        rows = Rows.open(context.inputs["data"], split)
        num_examples = rows.num_examples if settings.limit is None else min(settings.limit, rows.num_examples)
        result[name] = evaluation.scores(rows, num_examples, name)
        if context.is_rank_zero:
            for baseline, scores in evaluation.baselines(rows, num_examples).items():
                baselines.setdefault(baseline, {})[name] = scores
    if not context.is_rank_zero:
        return {}
    for notice in evaluation.notices(result, baselines):
        context.notices.add(notice)
    text = json.dumps({**result, "baselines": baselines}, indent=1, sort_keys=True, allow_nan=False)
    (context.folder / "metrics.json").write_text(text + "\n", "utf-8")
    values = {name: {metric: entry["value"] for metric, entry in scores.items()} for name, scores in result.items()}
    prefix = "" if len(values) == 1 else "{}/"
    for name, scores in values.items():
        context.journal.log(
            {f"eval/{prefix.format(name)}{metric}": value for metric, value in scores.items()}, 0
        )
    line = "; ".join(
        ", ".join(f"{metric} {value:.2f}" for metric, value in scores.items()) for scores in values.values()
    )
    return {"metrics": values, "line": line + evaluation.account}


def _is_asked(name: str, split: str) -> bool:
    return name == "validation" if split == "validation" else name.startswith("test.")


EVALUATE = StageKind(run=run, parallel=True)
