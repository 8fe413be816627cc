"""Validation in the middle of a training: the loss on held-out rows, and scores of the answers to them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from ..data.batches import micro_batches
from ..metrics.score import needing, score_loss
from ..models.load import load_model, model_folder
from ..protocol import Validation
from .engine import whole_parameters
from .step import Training


def validate(training: Training, step: int) -> dict[str, float]:
    """The asked metrics on the first `limit` validation rows; the same numbers on every rank. Where the loss is not
    finite it is all there is: what such weights write is nothing to score."""
    settings, rows = training.settings.validation, training.validation_rows
    num_examples = rows.num_examples if settings.limit is None else min(settings.limit, rows.num_examples)
    ids = np.arange(num_examples)
    training.engine.eval()
    of_loss = dict.fromkeys(["loss", *needing(settings.metrics, "loss")])  # the loss is always logged
    loss = _loss(training, ids)
    if not math.isfinite(loss):
        return {"loss": loss}
    metrics = {name: float(found["value"]) for name, found in score_loss(list(of_loss), loss).items()}
    of_answers = [name for name in settings.metrics if name not in of_loss]
    if of_answers:
        model = _whole_model(training)
        asked = Validation(
            model=model, tokenizer=training.tokenizer, rows=rows, ids=ids, metrics=of_answers, settings=settings,
            context=training.context, device=training.engine.device,
        )  # fmt: skip
        metrics |= training.task.validate(asked)
        del model, asked
    training.engine.train()
    training.context.journal.log({f"validation/{name}": value for name, value in metrics.items()}, step)
    return metrics


def _loss(training: Training, ids: Any) -> float:
    """Mean label cross-entropy per token, in nats, without smoothing or weights."""
    context, engine = training.context, training.engine
    rows = training.task.drawn(training.validation_rows, ids, training.tokenizer, training.settings, None)
    device = engine.device
    sums = torch.zeros(2, dtype=torch.float64, device=device)  # loss, tokens
    parts = micro_batches(
        ids, rows.source_lengths, rows.target_lengths, context.world, training.micro_batch_tokens
    )
    with context.progress.task("validation loss", len(parts), "batches") as update:
        for index, micro_step in enumerate(parts):
            batch = training.task.collate(rows, micro_step[context.rank], training.tokenizer.pad_token_id)
            sums += training.objective.label_loss({name: tensor.to(device) for name, tensor in batch.items()})
            update(index + 1)
    if context.world > 1:
        dist.all_reduce(sums)
    loss, tokens = sums.tolist()
    return float(loss / tokens)


def _whole_model(training: Training) -> Any:
    """The model to ask. Under ZeRO 3 ranks would have to take the same number of decoding steps;
    a whole copy on each rank has no such need."""
    student = training.objective.student
    if not training.engine.zero_optimization_partition_weights():
        return student
    copy = load_model(model_folder(training.context.inputs["model"]), precision="fp32")
    with whole_parameters(training.engine):
        copy.load_state_dict({name: tensor.detach().cpu() for name, tensor in student.state_dict().items()})
    return copy.to(training.engine.device).eval()
