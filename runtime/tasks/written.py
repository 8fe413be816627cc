"""Texts that a model writes: scored against references, in an evaluation and in a training, and timed.

All ranks write, shard by shard (generation/shards.py); what is done stays done when a stage is interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.batches import sorted_batches
from ..data.rows import Rows, references_of
from ..execution.context import Context
from ..failure import interrupted
from ..generation.choose import open_engine
from ..generation.ends import Ends
from ..generation.engine import Engine, batches, generate_texts, written_by
from ..generation.rounds import work_in_rounds
from ..generation.shards import Shard, in_order, whole_batches
from ..generation.speed import Job, measure_alone
from ..generation.transformers_engine import TransformersEngine
from ..messages.notices import Notice
from ..metrics.score import needing, score, score_loss
from ..metrics.words import unseen_notice
from ..models.forward import label_logits
from ..models.load import load_model, load_tokenizer, model_folder
from ..objective.terms import labels_term
from ..plan.plan import Stage
from ..plan.settings import BenchmarkSettings, EvaluateSettings, GenerationSettings
from ..protocol import Task, Timed, Validation

LOSS_BATCH_TOKENS = 8192
MODELS = ("benchmark-teacher", "benchmark-student")  # stages that time a model itself, no export


class Evaluation:
    """Of the model of an `evaluate` stage; `protocol.Evaluation` says what the methods are. `baseline`: gives the
    baselines of a set, by name."""

    def __init__(
        self, task: Task, stage: Stage, context: Context,
        baseline: Callable[[Rows, int, Sequence[str]], dict[str, dict[str, Any]]],
        judge: Callable[[str, Mapping[str, Any], Mapping[str, Any]], Notice | None],
    ) -> None:  # fmt: skip
        self._task, self._stage, self._context = task, stage, context
        self._baseline, self._judge = baseline, judge
        self._settings: EvaluateSettings = stage.settings
        self._models = _Models(context, self._settings)
        self._texts = needing(self._settings.metrics, "texts")
        self._ends = Ends()

    @property
    def account(self) -> str:
        return self._models.account + (f"; {self._ends.told}" if self._ends.told else "")

    def scores(self, rows: Rows, num_examples: int, name: str) -> dict[str, Any]:
        settings, context, models = self._settings, self._context, self._models
        scores: dict[str, Any] = {}
        if self._texts:
            folder = context.scratch / f"shards.{name}"
            shards = _generate(models.engine(rows), rows, num_examples, name, folder, context)
            if context.is_rank_zero:
                records = [rows.raw(i) for i in range(num_examples)]
                written = [json.loads(line) for line in in_order(folder, shards)]
                predictions = [text["text"] for text in written]
                for text in written:
                    self._ends.add(text["at_limit"])
                references = [references_of(record) for record in records]
                scores = score(self._texts, predictions, references, settings.scoring)
                notice = unseen_notice(self._texts, references, settings.scoring, "evaluation.metrics")
                if notice is not None:
                    context.notices.add(notice)
                _write_predictions(context.folder / f"predictions.{name}.jsonl", records, predictions)
        if of_loss := needing(settings.metrics, "loss"):
            # Longest first, dealt out in turn: every rank gets about the same work.
            order = np.argsort(-rows.source_lengths[:num_examples], kind="stable")
            mine = order[context.rank :: context.world]
            pad_id = load_tokenizer(models.folder).pad_token_id
            sums = context.gather(_loss(self._task, models.model(), rows, mine, pad_id, context))
            loss, tokens = (sum(part[i] for part in sums) for i in (0, 1))
            scores.update(score_loss(of_loss, loss / tokens))
        return scores

    def baselines(self, rows: Rows, num_examples: int) -> dict[str, dict[str, Any]]:
        return self._baseline(rows, num_examples, self._texts) if self._texts else {}

    def notices(self, scores: Mapping[str, Any], baselines: Mapping[str, Mapping[str, Any]]) -> Iterator[Notice]:
        if self._stage.id == "evaluate-teacher":
            for name, found in scores.items():
                # Without a baseline it is judged by its scores alone.
                for baseline in [sets[name] for sets in baselines.values() if name in sets] or [{}]:
                    if (notice := self._judge(name, found, baseline)) is not None:
                        yield notice
        if (notice := self._ends.notice(_generation_path(self._stage))) is not None:
            yield notice


def _generation_path(stage: Stage) -> str:
    """Where the spec says how the model of this stage writes."""
    of_validation = stage.settings.split == "validation"
    if stage.id == "evaluate-teacher":
        return "evaluation.teacher_generation"
    return "validation.generation" if of_validation else "evaluation.generation"


class _Models:
    """The model in the forms that the metrics need, each loaded when it is first asked for: an engine that
    writes, a model of transformers whose loss is computed. One that transformers writes with is both."""

    def __init__(self, context: Context, settings: EvaluateSettings) -> None:
        self._context, self._settings = context, settings
        self.folder = model_folder(context.inputs["model"])
        self._engine: Engine | None = None
        self._model: Any = None

    def engine(self, rows: Rows) -> Engine:
        """That of the plan. `rows`: from any of its labels the language of the answers is taken."""
        if self._engine is None:
            generation = self._settings.generation
            assert generation is not None  # of tasks that write text
            self._engine = open_engine(
                generation, self.folder, self._context.inputs.get("converted"), precision=self._settings.precision,
                device=self._context.device, labels=rows.target(0), with_scores=False,
            )  # fmt: skip
        return self._engine

    @property
    def account(self) -> str:
        """Of the engine that wrote, where it is another than the plan names."""
        return "" if self._engine is None else written_by(self._engine)

    def model(self) -> Any:
        """On the device, in eval mode."""
        if isinstance(self._engine, TransformersEngine):
            return self._engine.model
        if self._model is None:
            model = load_model(self.folder, precision=self._settings.precision)
            self._model = model.to(self._context.device)
        return self._model


def _generate(engine: Engine, rows: Rows, num_examples: int, name: str, folder: Path, context: Context) -> list[Shard]:
    """Put a text for each of the first rows into the folder, a line each: {text, at_limit: the length limit at which
    it ends, null where it ends by itself}. Returns the shards."""
    lengths = rows.source_lengths[:num_examples]
    shards = whole_batches(batches(lengths, engine.width), lengths)

    def work(shard: Shard, on_progress: Callable[[int], None]) -> list[str]:
        at_limit: dict[int, int] = {}
        texts = generate_texts(engine, rows, shard, on_progress, at_limit)
        written = [{"text": text, "at_limit": at_limit.get(i)} for i, text in enumerate(texts)]
        return [json.dumps(line, allow_nan=False) + "\n" for line in written]

    work_in_rounds(shards, folder, context, f"generating for {name}", lambda: work, engine.name)
    return shards


@torch.inference_mode()
def _loss(
    task: Task, model: Any, rows: Rows, ids: np.ndarray[Any, Any], pad_id: int, context: Context
) -> tuple[float, int]:
    """Label cross-entropy of a rank's rows summed over label tokens, in nats, and their number."""
    lengths = rows.source_lengths[ids] + rows.target_lengths[ids]
    mine = sorted_batches(lengths, LOSS_BATCH_TOKENS, even=True)
    loss = 0.0
    for number in range(max(context.gather(len(mine)))):
        if number < len(mine):
            batch = ids[mine[number]]
            tensors = {name: tensor.to(context.device) for name, tensor in task.collate(rows, batch, pad_id).items()}
            loss += float(labels_term(label_logits(model, tensors), tensors["labels"], smoothing=0.0))
        if context.stop_requested():
            raise interrupted(context.stage.id)
    return loss, task.num_items(rows, ids)["label-tokens"]


def _write_predictions(path: Path, records: Sequence[dict[str, Any]], predictions: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for record, prediction in zip(records, predictions, strict=True):
            line = {
                "id": record["id"],
                "source": record["source"],
                "reference": record.get("references", record["target"]),
                "prediction": prediction,
            }
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


# --- in a training ---------------------------------------------------------------------------------


def validate(asked: Validation) -> dict[str, float]:
    """Each rank writes for every `world`-th row; all score the whole, so all agree."""
    rows, ids, context, generation = asked.rows, asked.ids, asked.context, asked.settings.generation
    mine = ids[context.rank :: context.world]
    assert generation is not None  # of tasks that write text
    with context.progress.task("validation texts", len(mine), "examples") as update:
        engine = TransformersEngine(
            asked.model, asked.tokenizer, generation, asked.device, rows.target(0), with_scores=False
        )
        texts = generate_texts(engine, rows, mine, update)
        del engine
    everywhere = context.gather(dict(zip(mine.tolist(), texts, strict=True)))
    predictions = {i: text for part in everywhere for i, text in part.items()}
    references = [references_of(rows.raw(int(i))) for i in ids]
    result = score(asked.metrics, [predictions[int(i)] for i in ids], references, asked.settings.scoring)
    return {name: float(result[name]["value"]) for name in asked.metrics}


# --- timed -----------------------------------------------------------------------------------------


def timed(stage: Stage, context: Context, split: str) -> list[Timed]:
    """Writing for the first examples of a set, by the plan's engine, then by the other."""
    settings: BenchmarkSettings = stage.settings
    num_examples = min(settings.examples, Rows.open(context.inputs["data"], split).num_examples)
    found = []
    for generation in engines_of(settings, stage):
        job = Job(
            generation=generation,
            folder=model_folder(context.inputs["model"]),
            converted=context.inputs.get("converted"),
            precision=settings.precision,
            device=context.device,
            data=context.inputs["data"],
            split=split,
            num_examples=num_examples,
            batch_size=settings.batch_size,
            repeats=settings.repeats,
        )
        found.append(Timed(name=generation.engine, num_examples=num_examples, measure=partial(measure_alone, job)))
    return found


def engines_of(settings: BenchmarkSettings, stage: Stage) -> list[GenerationSettings]:
    """The plan's first, then the other: ctranslate2 only where the plan has a model in its form. An export is one
    form of a model that another stage measures."""
    own = settings.generation
    assert own is not None  # of tasks that write text
    if own.engine == "transformers" or stage.id not in MODELS:
        return [own]
    return [own, replace(own, engine="transformers", compute_type=None, named=False)]
