"""The `evaluate` stage: a model and token rows -> scores on the test sets (or on validation), and the texts.

metrics.json                  {test set: {metric: {value, low, high, ...}}, "baselines": {"lead": {...}}}
predictions.<test set>.jsonl  {id, source, reference, prediction}, in the order of the data; of several references a
                              list

All ranks write the texts, shard by shard (generation/shards.py); what is done stays done when the stage is interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.batches import collate, sorted_batches
from ..data.rows import Rows, references_of, split_names
from ..execution.context import Context
from ..failure import interrupted
from ..generation.choose import open_engine
from ..generation.ends import Ends
from ..generation.engine import Engine, batches, generate_texts, written_by
from ..generation.rounds import work_in_rounds
from ..generation.shards import Shard, in_order, whole_batches
from ..generation.transformers_engine import TransformersEngine
from ..messages.notices import Notice
from ..metrics.score import needing, score, score_loss, with_line_breaks
from ..metrics.sentences import split_sentences
from ..metrics.words import unseen_notice
from ..models.forward import decoder_inputs
from ..models.load import load_model, load_tokenizer, model_folder
from ..objective.terms import labels_term
from ..plan import EvaluateSettings, Scoring, Stage

PARALLEL = True
LOSS_BATCH_TOKENS = 8192


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """Every rank generates its share of each set; rank 0 scores and writes.

    Raises `Failure` R300 (asked to stop), R22x (the model), R32x (the engine)."""
    settings: EvaluateSettings = stage.settings
    result: dict[str, Any] = {}
    baselines: dict[str, Any] = {}
    texts = needing(settings.metrics, "texts")
    models = _Models(context, settings)
    splits = [name for name in split_names(context.inputs["data"]) if _is_asked(name, settings.split)]
    ends = Ends()
    for split in splits:
        name = split.removeprefix("test.")
        rows = Rows.open(context.inputs["data"], split)
        num_examples = rows.num_examples if settings.limit is None else min(settings.limit, rows.num_examples)
        result[name] = _evaluate(models, rows, num_examples, name, settings, ends, context)
        if settings.task == "summarization" and texts and context.first:
            baselines[name] = _lead(rows, num_examples, texts, settings.scoring)
    if not context.first:
        return {}
    result["baselines"] = {"lead": baselines} if baselines else {}
    if stage.id == "evaluate-teacher":
        for name, lead in baselines.items():
            if (notice := below_the_lead(name, result[name], lead)) is not None:
                context.notices.add(notice)
    text = json.dumps(result, indent=1, sort_keys=True, allow_nan=False)
    (context.folder / "metrics.json").write_text(text + "\n", "utf-8")
    values = {name: {metric: entry["value"] for metric, entry in result[name].items()}
              for name in result if name != "baselines"}  # fmt: skip
    prefix = "" if len(values) == 1 else "{}/"
    for name, scores in values.items():
        context.journal.log(
            {f"eval/{prefix.format(name)}{metric}": value for metric, value in scores.items()}, 0
        )
    if (notice := ends.notice(_generation_path(stage))) is not None:
        context.notices.add(notice)
    line = "; ".join(
        ", ".join(f"{metric} {value:.2f}" for metric, value in scores.items()) for scores in values.values()
    )
    cut = f"; {ends.told}" if ends.told else ""
    return {"metrics": values, "line": line + models.account + cut}


def _generation_path(stage: Stage) -> str:
    """Where the spec says how the model of this stage writes."""
    of_validation = stage.settings.split == "validation"
    if stage.id == "evaluate-teacher":
        return "evaluation.teacher_generation"
    return "validation.generation" if of_validation else "evaluation.generation"


def _is_asked(name: str, split: str) -> bool:
    return name == "validation" if split == "validation" else name.startswith("test.")


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


def _evaluate(
    models: _Models,
    rows: Rows,
    num_examples: int,
    name: str,
    settings: EvaluateSettings,
    ends: Ends,
    context: Context,
) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    texts = needing(settings.metrics, "texts")
    if texts:
        folder = context.scratch / f"shards.{name}"
        shards = _generate(models.engine(rows), rows, num_examples, name, folder, context)
        if context.first:
            records = [rows.raw(i) for i in range(num_examples)]
            written = [json.loads(line) for line in in_order(folder, shards)]
            predictions = [text["text"] for text in written]
            for text in written:
                ends.add(text["at_limit"])
            references = [references_of(record) for record in records]
            scores = score(texts, predictions, references, settings.scoring)
            if (notice := unseen_notice(texts, references, settings.scoring, "evaluation.metrics")) is not None:
                context.notices.add(notice)
            _write_predictions(context.folder / f"predictions.{name}.jsonl", records, predictions)
    if of_loss := needing(settings.metrics, "loss"):
        # Longest first, dealt out in turn: every rank gets about the same work.
        order = np.argsort(-rows.source_lengths[:num_examples], kind="stable")
        mine = order[context.rank :: context.world]
        pad_id = load_tokenizer(models.folder).pad_token_id
        sums = context.gather(_loss(models.model(), rows, mine, pad_id, context))
        loss, tokens = (sum(part[i] for part in sums) for i in (0, 1))
        scores.update(score_loss(of_loss, loss / tokens))
    return scores


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
def _loss(model: Any, rows: Rows, ids: np.ndarray[Any, Any], pad_id: int, context: Context) -> tuple[float, int]:
    """Label cross-entropy of a rank's rows summed over label tokens, in nats, and their number."""
    lengths = rows.source_lengths[ids] + rows.target_lengths[ids]
    mine = sorted_batches(lengths, LOSS_BATCH_TOKENS, even=True)
    loss = 0.0
    for number in range(max(context.gather(len(mine)))):
        if number < len(mine):
            batch = ids[mine[number]]
            tensors = {name: tensor.to(context.device) for name, tensor in collate(rows, batch, pad_id).items()}
            decoder_input_ids = decoder_inputs(model, tensors["labels"])
            logits = model(input_ids=tensors["input_ids"], attention_mask=tensors["attention_mask"],
                           decoder_input_ids=decoder_input_ids, use_cache=False).logits  # fmt: skip
            loss += float(labels_term(logits, tensors["labels"], smoothing=0.0))
        if context.stop_requested():
            raise interrupted(context.stage.id)
    return loss, int(rows.target_lengths[ids].sum())


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


def _lead(rows: Rows, num_examples: int, metrics: Sequence[str], scoring: Scoring) -> dict[str, Any]:
    """The baseline that every summary must beat: the first sentences of the source, as many as the references
    have on average."""

    def sentences(text: str) -> list[str]:
        text = with_line_breaks(text, scoring.line_break)
        return split_sentences(text, any_script=scoring.rouge_tokenizer == "unicode")

    records = [rows.raw(i) for i in range(num_examples)]
    num_sentences = max(1, round(sum(len(sentences(record["target"])) for record in records) / num_examples))
    leads = [" ".join(sentences(record["source"])[:num_sentences]) for record in records]
    return score(metrics, leads, [references_of(record) for record in records], scoring)


def below_the_lead(name: str, scores: Mapping[str, Any], lead: Mapping[str, Any]) -> Notice | None:
    """A teacher that writes worse than who copies the beginning: nobody learns to summarize from it. `name`: of the
    test set; `scores`, `lead`: metric -> {value, ...}."""
    metric = "rouge2" if "rouge2" in lead else next(iter(lead))
    ours, theirs = scores[metric]["value"], lead[metric]["value"]
    if ours >= theirs:
        return None
    return Notice(
        "R365",
        f"on {name} the teacher's {metric} is {ours:.2f}, and that of the lead baseline, the first sentences of the "
        f"source, is {theirs:.2f}",
        "a student learns what its teacher can: stop here, and train the teacher longer (`teacher.train`), take "
        "another, or look at its generation (`evaluation.teacher_generation`)",
        "teacher",
    )
