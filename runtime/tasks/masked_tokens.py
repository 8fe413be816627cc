"""Masked tokens that a model predicts: scored in an evaluation and in a training, and timed.

All models are asked about the same tokens, at the same places (`data.masking.FIXED`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..data.masking import MaskedRows, choice_of, masked_alike, read_counts
from ..data.rows import Rows
from ..execution.context import Context
from ..extensions import TASKS
from ..messages.notices import Notice
from ..metrics.score import needing, score, score_loss
from ..models.families import IGNORED
from ..models.forward import last_states, with_inputs
from ..models.head import Head, chunks
from ..models.load import load_model, load_tokenizer, model_folder
from ..plan.plan import Stage
from ..plan.settings import EvaluateSettings, Scoring
from ..protocol import Task, Timed, Validation
from .forward_passes import over_ranks, timed_forwards

Tokens = NDArray[np.int64]


class Predicted(NamedTuple):
    """Of the masked tokens of some rows, in their order, each (N,): `losses` in nats; `labels`, `found`: the tokens
    that stand there, and the likeliest ones."""

    losses: NDArray[np.floating[Any]]
    labels: Tokens
    found: Tokens


class Evaluation:
    """Of the model of an `evaluate` stage; `protocol.Evaluation` says what the methods are."""

    account = ""

    def __init__(self, task: Task, stage: Stage, context: Context) -> None:
        self._task, self._stage, self._context = task, stage, context
        self._settings: EvaluateSettings = stage.settings
        folder = model_folder(context.inputs["model"])
        self._tokenizer = load_tokenizer(folder)
        self._model = load_model(folder, precision=self._settings.precision).to(context.device)

    def scores(self, rows: Rows, num_examples: int, name: str) -> dict[str, Any]:
        ids = np.arange(num_examples)
        with self._context.progress.task(f"predicting masked tokens of {name}", num_examples, "examples") as update:
            found = predicted(
                self._task, self._model, self._tokenizer, rows, ids, self._context, self._context.device, update
            )
        return _scored(found, self._settings.metrics, self._tokenizer, self._settings.scoring)

    def baselines(self, rows: Rows, num_examples: int) -> dict[str, dict[str, Any]]:
        """The frequencies of the tokens in the training set, whatever stands around the masked one."""
        counts = read_counts(rows.folder).astype(np.float64) + 1.0
        counts[self._tokenizer.all_special_ids] = 0.0
        masked = masked_alike(rows, choice_of(self._tokenizer))
        targets = map(masked.target, range(num_examples))
        labels = np.concatenate([row[row != IGNORED] for row in targets]).astype(np.int64)
        losses = -np.log(counts[labels] / counts.sum())
        found = Predicted(losses, labels, np.full_like(labels, counts.argmax()))
        return {"unigram": _scored(found, self._settings.metrics, self._tokenizer, self._settings.scoring)}

    def notices(self, scores: Mapping[str, Any], baselines: Mapping[str, Mapping[str, Any]]) -> Iterator[Notice]:
        if self._stage.id != "evaluate-teacher":
            return
        for name, found in scores.items():
            unigram = baselines["unigram"][name]
            if "loss" not in found or found["loss"]["value"] < unigram["loss"]["value"]:
                continue
            yield Notice(
                "R365",
                f"on {name} the teacher's loss is {found['loss']['value']:.2f}, and that of the unigram baseline, "
                f"which knows how frequent each token is and nothing else, is {unigram['loss']['value']:.2f}",
                "a student learns what its teacher can: stop here, and train the teacher longer (`teacher.train`), or "
                "take another",
                "teacher",
            )


def _scored(found: Predicted, metrics: Sequence[str], tokenizer: Any, scoring: Scoring) -> dict[str, Any]:
    scores = score_loss(needing(metrics, "loss"), float(found.losses.mean(dtype=np.float64)))
    if of_labels := needing(metrics, "labels"):
        predictions, references = (tokenizer.convert_ids_to_tokens(ids.tolist()) for ids in (found.found, found.labels))
        scores |= score(of_labels, predictions, references, scoring)
    return {name: scores[name] for name in metrics if name in scores}


def validate(task: Task, asked: Validation) -> dict[str, float]:
    """Each rank predicts for every `world`-th row; all score the whole, so all agree."""
    context, ids, tokenizer = asked.context, asked.ids, asked.tokenizer
    with context.progress.task("validation", len(ids), "examples") as update:
        found = predicted(task, asked.model, tokenizer, asked.rows, ids, context, asked.device, update)
    scores = _scored(found, asked.metrics, tokenizer, asked.settings.scoring)
    return {name: float(scores[name]["value"]) for name in asked.metrics}


# --- predictions -----------------------------------------------------------------------------------


def predicted(
    task: Task, model: Any, tokenizer: Any, rows: Rows, ids: Any, context: Context, device: Any,
    on_progress: Callable[[int], None],
) -> Predicted:  # fmt: skip
    """Of some rows, on every rank; each computes its share. `model`: in eval mode. Raises `Failure` R300: asked to
    stop."""
    masked = masked_alike(rows, choice_of(tokenizer))

    def answer(chosen: Any) -> list[Predicted]:
        found = predict(model, task.collate(masked, chosen, tokenizer.pad_token_id), device)
        ends = np.cumsum([(masked.target(int(i)) != IGNORED).sum() for i in chosen])[:-1]
        return [Predicted(*of_row) for of_row in zip(*(np.split(part, ends) for part in found), strict=True)]

    return Predicted(*map(np.concatenate, zip(*over_ranks(rows, ids, context, on_progress, answer), strict=True)))


@torch.inference_mode()
def predict(model: Any, batch: Mapping[str, Tensor], device: Any) -> Predicted:
    """Of a collated batch, row by row."""
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    chosen = batch["labels"] != IGNORED  # (B, S)
    labels = batch["labels"][chosen]  # (N,)
    head = Head(model)
    states = head.rows(last_states(model, with_inputs(model, batch)), chosen, batch)  # (N, d)
    losses, found = [], []
    for start, end in chunks(len(labels), head.linear.weight.shape[0]):
        logits = head(states[start:end]).float()  # (n, V)
        losses.append(functional.cross_entropy(logits, labels[start:end], reduction="none"))
        found.append(logits.argmax(dim=-1))
    return Predicted(torch.cat(losses).cpu().numpy(), labels.cpu().numpy(), torch.cat(found).cpu().numpy())


# --- timed -----------------------------------------------------------------------------------------


def timed(stage: Stage, context: Context, split: str) -> list[Timed]:
    """Forward passes over the first examples of a set; the logits are those of the masked tokens."""
    return timed_forwards(stage, context, split, _predict)


def _predict(model: Any, tokenizer: Any, rows: Rows, num_examples: int) -> Callable[[Any], Predicted]:
    task, alike = TASKS["masked-lm"], masked_alike(rows, choice_of(tokenizer))
    drawn = {i: (alike.source(i), alike.target(i)) for i in range(num_examples)}
    masked = MaskedRows(rows, drawn.__getitem__)
    return lambda ids: predict(model, task.collate(masked, ids, tokenizer.pad_token_id), model.device)
