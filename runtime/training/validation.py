"""Validation in the middle of a training: the loss on held-out rows, and scores of generated text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from ..data.batches import collate, micro_batches
from ..data.rows import references_of
from ..generation.engine import generate_texts
from ..generation.transformers_engine import TransformersEngine
from ..metrics.score import needing, score, score_loss
from ..models.load import load_model, model_folder
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
    generated = needing(settings.metrics, "texts")
    if generated:
        metrics.update(_scores(training, ids, generated))
    training.engine.train()
    training.context.journal.log({f"validation/{name}": value for name, value in metrics.items()}, step)
    return metrics


def _loss(training: Training, ids: Any) -> float:
    """Mean label cross-entropy per token, in nats, without smoothing or weights."""
    context, engine, rows = training.context, training.engine, training.validation_rows
    device = engine.device
    sums = torch.zeros(2, dtype=torch.float64, device=device)  # loss, tokens
    parts = micro_batches(
        ids, rows.source_lengths, rows.target_lengths, context.world, training.micro_batch_tokens
    )
    with context.progress.task("validation loss", len(parts), "batches") as update:
        for index, micro_step in enumerate(parts):
            batch = {
                name: tensor.to(device)
                for name, tensor in collate(
                    rows, micro_step[context.rank], training.tokenizer.pad_token_id
                ).items()
            }
            sums += training.objective.label_loss(batch)
            update(index + 1)
    if context.world > 1:
        dist.all_reduce(sums)
    loss, tokens = sums.tolist()
    return float(loss / tokens)


def _scores(training: Training, ids: Any, names: list[str]) -> dict[str, float]:
    """Each rank generates every `world`-th row; all score the whole, so all agree."""
    context, rows = training.context, training.validation_rows
    mine = ids[context.rank :: context.world]
    model, lent = _generator(training)
    generation = training.settings.validation.generation
    assert generation is not None  # of tasks that write text
    with context.progress.task("validation texts", len(mine), "examples") as update:
        engine = TransformersEngine(
            model, training.tokenizer, generation, training.engine.device, rows.target(0), with_scores=False
        )
        texts = generate_texts(engine, rows, mine, update)
        del engine
    if lent is not None:
        del model
    everywhere = context.gather(dict(zip(mine.tolist(), texts, strict=True)))
    predictions = {i: text for part in everywhere for i, text in part.items()}
    references = [references_of(rows.raw(int(i))) for i in ids]
    scoring = training.settings.validation.scoring
    result = score(names, [predictions[int(i)] for i in ids], references, scoring)
    return {name: float(result[name]["value"]) for name in names}


def _generator(training: Training) -> tuple[Any, Any]:
    """The model to generate with. Under ZeRO 3 ranks would have to take the same number of decoding steps;
    a whole copy on each rank has no such need."""
    student = training.objective.student
    if not training.engine.zero_optimization_partition_weights():
        return student, None
    copy = load_model(model_folder(training.context.inputs["model"]), precision="fp32")
    with whole_parameters(training.engine):
        copy.load_state_dict({name: tensor.detach().cpu() for name, tensor in student.state_dict().items()})
    return copy.to(training.engine.device).eval(), copy
