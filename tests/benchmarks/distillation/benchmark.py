"""Five epochs of distillation, three times over, and what a step costs in each."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from measure import Row, seconds_of

from distilc.runtime.data.batches import collate

from . import setting as s
from .algorithm_2020 import Algorithm2020
from .product import Product
from .trainer import DistillationTrainer

STEP_EXAMPLES = 12  # steps of the last comparison


def benchmark() -> Iterator[Row]:
    """KD of a narrow BART 12-12 to 12-3 over 5 epochs, as in `setting.py`. The three train in turn, epoch by epoch,
    so that what else the machine does meets them alike; an epoch's time is the median of the five. Ours pays for
    the cache once."""
    from distilc.runtime.execution.processes import join

    setting = s.make_setting()
    seconds: dict[str, list[float]] = {"2020": [], "ours": []}

    def others(epoch: int) -> None:
        seconds["2020"].append(seconds_of(lambda: old.epoch(epoch)))
        seconds["ours"].append(seconds_of(lambda: ours.epoch(epoch)))

    trainer = DistillationTrainer(setting, after_epoch=others)
    join("cpu")  # after the trainer was made: it would take a process group for a reason to wrap its model
    old, ours = Algorithm2020(setting), Product(setting)
    before = losses(setting, old, trainer, ours)
    assert max(before) - min(before) < 1e-5 * max(before), f"not the same objective: {before}"
    fill = seconds_of(ours.fill)
    trainer.train()
    seconds["trainer"] = trainer.epoch_seconds
    epoch = {name: statistics.median(found) for name, found in seconds.items()}
    whole = {name: s.EPOCHS * value for name, value in epoch.items()}
    whole["ours"] += fill
    after = losses(setting, old, trainer, ours)
    for other, what, goal in (("2020", "the 2020 algorithm", 5), ("trainer", "Seq2SeqTrainer, grouped by length", 3)):
        ratio = whole[other] / whole["ours"]
        times = f"{whole[other]:.0f} s / {whole['ours']:.0f} s, {fill:.0f} s of it for the cache"
        yield Row(f"KD over 5 epochs: {what} / ours", f"{ratio:.1f} x ({times})", f">= {goal} x", ratio >= goal)
    ratio = epoch["2020"] / epoch["ours"]
    yield Row("a KD step: the 2020 algorithm / ours, cached", f"{ratio:.1f} x", ">= 8 x", ratio >= 8)
    spread = (max(after) - min(after)) / (before[0] - sum(after) / len(after))
    shown = ", ".join(f"{loss:.3f}" for loss in after)
    yield Row(
        "loss afterwards on other rows: 2020, trainer, ours", f"{shown} (before: {before[0]:.3f})",
        "equal to 5 % of what was learnt", spread <= 0.05,
    )  # fmt: skip
    ratio = step_ratio(setting, ours)
    yield Row("a KD step, cached / an SFT step with the encoder", f"{ratio:.2f} x", "<= 1.0 x", ratio <= 1.0)


def losses(setting: s.Setting, old: Algorithm2020, trainer: DistillationTrainer, ours: Product) -> list[float]:
    """The whole objective on the evaluation rows, a mean over label tokens, by each one's own code."""
    ways: list[tuple[Any, Callable[[Any], Any]]] = [
        (old.student, old.loss),
        (trainer.model, lambda batch: trainer.compute_loss(trainer.model, batch)),
        (ours.engine, ours.loss),
    ]
    rows = setting.evaluation_rows
    parts = [range(start, min(start + s.BATCH_EXAMPLES, len(rows))) for start in range(0, len(rows), s.BATCH_EXAMPLES)]
    found = []
    for model, loss in ways:
        model.eval()
        with torch.no_grad():
            sums = [float(loss(collate(rows, ids, s.PAD))) * int(rows.target_lengths[ids].sum()) for ids in parts]
        model.train()
        found.append(sum(sums) / int(rows.target_lengths.sum()))
    return found


def step_ratio(setting: s.Setting, ours: Product) -> float:
    """A cached KD step against an SFT step of the same rows whose encoder runs; the median over steps."""
    sft = Product(setting, "sft")
    steps = (sft.steps(0) + sft.steps(1))[: STEP_EXAMPLES + 1]
    ratios = [
        seconds_of(lambda step=step: ours.step(step)) / seconds_of(lambda step=step: sft.step(step)) for step in steps
    ]
    return statistics.median(ratios[1:])
