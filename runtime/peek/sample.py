"""A prepared training -> the facts of one micro-batch and of a few of its rows, as plain JSON data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.batches import micro_batches
from ..data.rows import Rows
from ..data.tokenize import prepare as prepare_tokenizer
from ..execution.store import Store
from ..extensions import TASKS
from ..failure import Failure
from ..models.families import IGNORED, classifies, has_label, reads_labels
from ..models.forward import last_states, with_inputs
from ..models.head import Head
from ..models.load import load_tokenizer, model_folder
from ..objective.objective import Objective, factors_of
from ..plan.plan import Plan
from ..plan.settings import DataSettings, StudentSettings, TrainSettings
from ..signals.candidates import candidates_of
from ..signals.read import CANDIDATES, signal
from ..training.step_schedule import Step, StepSchedule
from ..verify.subject import FewRows, Subject, counts_of
from .prepare import Prepared
from .remarks import batch_remarks, row_remarks
from .token_text import TokenText

TOP = 5
POSITIONS = 8  # of a target, from its start
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Asked:
    """`batch`: number of the micro-batch of the first step, from 1; `row`: number of a row, or `id`: its id, to
    show the micro-batch of the first epoch that holds it; `rows`: how many rows are shown."""

    batch: int | None = None
    row: int | None = None
    id: str | None = None
    rows: int = 2


@dataclass(frozen=True)
class Batch:
    """A micro-batch: `step` None when no step of the first epoch has it. `number` counts from 1."""

    step: Step | None
    number: int
    rank: int
    of: int
    ids: Ids


def sample(prepared: Prepared, store: Store, asked: Asked) -> dict[str, Any]:
    """The facts. Raises `Failure` R360: there is no such batch or row."""
    plan, stage = prepared.plan, prepared.stage
    rows = Rows.open(prepared.inputs["data"], "train")
    tokenizer = load_tokenizer(model_folder(prepared.inputs["model"]))
    step_schedule = StepSchedule(stage.settings, rows)
    batch, shown = _chosen(plan, step_schedule, rows, stage.execution.micro_batch_tokens or 1, asked)
    subject = Subject(plan, stage, prepared.student, prepared.inputs, {}, FewRows(rows, batch.ids), tokenizer)
    settings, objective, task = subject.settings, subject.objective(), TASKS[plan.task]
    # What is predicted is drawn for a whole step.
    drawn = task.drawn(rows, batch.ids if batch.step is None else batch.step.ids, tokenizer, settings, 0)
    tensors = task.collate(drawn, batch.ids, subject.pad_id)
    teacher = None if objective.teacher is None else objective.teacher.model
    task.configure(objective.student, teacher, prepared.inputs["data"])
    few = {name: tensor[shown] for name, tensor in tensors.items()}
    data = plan.stage("data")
    words = TokenText(tokenizer)
    lengths = _Lengths(prepared, data.settings)
    few |= _candidates(prepared, objective, few, batch.ids[shown])
    told = _report_rows(objective, rows, batch.ids[shown], few, words, lengths)
    whole = store.manifest(data.key)["summary"].get("train", {})
    facts: dict[str, Any] = {
        "version": 1,
        "name": plan.name,
        "task": plan.task,
        "notes": list(prepared.notes),
        "teacher": {
            "model": plan.teacher.model, "trained": prepared.trained, "used": "teacher" in prepared.inputs,
            "shares_encoder": objective.teacher is not None and bool(objective.teacher.shared),
        },
        "student": {"model": plan.student.model, "freeze": list(settings.freeze)},
        "artifacts": {role: "in the store" if there else "not computed yet" for role, there in prepared.others.items()},
        "data": {
            "rows": len(rows),
            "targets": "original" if prepared.original else _targets(prepared),
            "prefix": data.settings.prefix,
            "max_source_tokens": data.settings.max_source_tokens,
            "max_target_tokens": data.settings.max_target_tokens,
            "truncated": _truncated(whole),
            "truncated_in_batch": lengths.cut(rows, batch.ids),
        },
        "step": _step(plan, step_schedule, rows, batch, settings),
        "batch": _batch(batch, tensors, writes=reads_labels(objective.student, objective.stacks[-1])),
        "rows": told,
        "layers": _layers(plan, objective, prepared),
        "objective": _objective(objective, settings, step_schedule, few, drawn, batch),
    }  # fmt: skip
    facts["remarks"] = batch_remarks(facts)
    return facts


def _chosen(
    plan: Plan, step_schedule: StepSchedule, rows: Rows, micro_batch_tokens: int, asked: Asked
) -> tuple[Batch, list[int]]:
    """The micro-batch, and the positions in it of the rows to show."""
    world = plan.site.nodes * plan.site.per_node
    steps = step_schedule.steps(after=0)

    def batches(step: Step) -> list[Batch]:
        parts = micro_batches(step.ids, rows.source_lengths, rows.target_lengths, world, micro_batch_tokens)
        flat = [(rank, ids) for micro in parts for rank, ids in enumerate(micro) if len(ids)]
        return [Batch(step, n, rank, len(flat), ids) for n, (rank, ids) in enumerate(flat, start=1)]

    if asked.row is not None or asked.id is not None:
        row = _row(rows, asked)
        step = next((step for step in steps if row in step.ids), None)
        if step is None:
            return Batch(None, 1, 0, 1, np.array([row], dtype=np.int64)), [0]
        batch = next(batch for batch in batches(step) if row in batch.ids)
        return batch, [int(np.flatnonzero(batch.ids == row)[0])]
    first = batches(steps[0])
    number = asked.batch or 1
    if not 1 <= number <= len(first):
        raise Failure("R360", f"the first step has {len(first)} micro-batches, there is no {number}",
                      f"--batch takes 1 to {len(first)}")  # fmt: skip
    batch = first[number - 1]
    count = min(max(1, asked.rows), len(batch.ids))
    return batch, np.unique(np.linspace(0, len(batch.ids) - 1, count).astype(int)).tolist()


def _row(rows: Rows, asked: Asked) -> int:
    if asked.row is not None:
        if not 0 <= asked.row < len(rows):
            raise Failure("R360", f"the training data have {len(rows):,} rows, there is no row {asked.row}",
                          f"--row takes 0 to {len(rows) - 1}")  # fmt: skip
        return asked.row
    for i in range(len(rows)):
        if rows.raw(i)["id"] == asked.id:
            return i
    raise Failure("R360", f"no row of the training data has the id {asked.id!r}",
                  f"the first one has {rows.raw(0)['id']!r}; --row takes a row by its number")  # fmt: skip


class _Lengths:
    """Tokens of whole texts, before they are cut: the data keep only what is left."""

    def __init__(self, prepared: Prepared, settings: DataSettings) -> None:
        self.settings = settings
        self.tokenizer = load_tokenizer(model_folder(prepared.inputs["model"]))
        prepare_tokenizer(self.tokenizer, settings)

    def of(self, raw: Mapping[str, Any]) -> dict[str, int]:
        return TASKS[self.settings.task].whole_lengths(raw, self.tokenizer, self.settings)

    def cut(self, rows: Rows, ids: Ids) -> dict[str, float]:
        """The share of these rows whose source or target was cut, in percent."""
        whole = [self.of(rows.raw(int(i))) for i in ids]
        kept = {"source": rows.source_lengths[ids], "target": rows.target_lengths[ids]}
        cut = {
            side: sum(length[side] > int(left) for length, left in zip(whole, kept[side], strict=True)) for side in kept
        }
        return {side: 100.0 * number / len(ids) for side, number in cut.items()}


@torch.no_grad()
def _report_rows(
    objective: Objective, rows: Rows, ids: Ids, batch: Mapping[str, Tensor], words: TokenText, lengths: _Lengths
) -> list[dict[str, Any]]:
    """What there is to see of each row, and what both models expect at the first positions of its target; where none is
    written, at the first that have a label."""
    model, teacher = objective.student, objective.teacher
    batch = with_inputs(model, batch)
    writes = reads_labels(model, objective.stacks[-1])
    inputs, mask = batch["decoder_input_ids" if writes else "input_ids"], batch["attention_mask"]  # (B, T), (B, S)
    name: Callable[[Any], str] = model.config.id2label.__getitem__ if classifies(model) else words.token
    if batch["labels"].is_floating_point():  # a number is predicted
        name = "{:.5g}".format
    shown, head = _shown(batch["labels"], writes=writes), Head(model)
    tops = {"student": _top(head(head.rows(last_states(model, batch), shown, batch)), name)}
    if teacher is not None:
        tops["teacher"] = _top(teacher.logits(teacher.rows(teacher.last_states(model, batch), shown, batch)), name)
    at = {where: n for n, where in enumerate(map(tuple, shown.reshape(len(shown), -1).nonzero().tolist()))}
    told = []
    for b, id in enumerate(ids.tolist()):
        raw, whole = rows.raw(id), lengths.of(rows.raw(id))
        source, labels = batch["input_ids"][b].tolist(), batch["labels"][b].reshape(-1).tolist()
        real = int(mask[b].sum())
        counts = has_label(batch["labels"])[b].reshape(-1).tolist()
        count = sum(counts)
        positions = [
            {
                "position": t, "decoder_input": words.token(int(inputs[b, t])),
                "label": name(labels[t]) if counts[t] else words.token(IGNORED),
                "counts": counts[t],
                **({who: found[at[b, t]] for who, found in tops.items()} if (b, t) in at else {}),
            }
            for t in range(len(labels))
        ]  # fmt: skip
        row = {
            "row": id, "id": raw["id"], "source_text": raw["source"], "target_text": raw["target"],
            "source": words.text(source[:real]),
            "target": raw["target"] if classifies(model) else words.text(labels),
            "source_tokens": [words.token(token) for token in source[:real]],
            "source_length": real, "source_padding": len(source) - real,
            "target_length": count, "target_padding": len(labels) - count,
            "whole_source_length": whole["source"], "whole_target_length": whole["target"],
            "positions": positions,
        }  # fmt: skip
        predicted = [label for label in labels if label != IGNORED]
        row["remarks"] = row_remarks(row, source[:real], predicted, int(inputs[b, 0]), words) if writes else []
        told.append(row)
    return told


@torch.no_grad()
def _candidates(
    prepared: Prepared, objective: Objective, batch: Mapping[str, Tensor], ids: Ids
) -> dict[str, Tensor]:
    """What the training will read of the teacher's candidates for these rows; {}: it reads none."""
    teacher, stage = objective.teacher, prepared.stage.needs.get(CANDIDATES)
    if teacher is None or stage is None:
        return {}
    found = candidates_of(
        teacher.last_states(objective.student, with_inputs(objective.student, batch)),
        batch["labels"] != IGNORED,
        teacher.head,
        prepared.plan.stage(stage).settings.candidates,
        ids.tolist(),
    )
    return {signal(CANDIDATES, name): tensor for name, tensor in found.items()}


def _shown(labels: Tensor, *, writes: bool) -> Tensor:
    """Where it is shown what the models expect: (B, T) bool; (B,) of labels of whole examples."""
    if labels.dim() == 1:
        return torch.ones_like(labels, dtype=torch.bool)
    if writes:
        return (torch.arange(labels.shape[1]) < POSITIONS).expand_as(labels)
    return (labels != IGNORED) & ((labels != IGNORED).cumsum(dim=1) <= POSITIONS)


def _top(logits: Tensor, name: Callable[[Any], str]) -> list[list[list[Any]]]:
    """logits (N, V) -> of each row the likeliest tokens or classes, each [name, probability]; of one output, which has
    none, [its number, None]."""
    if logits.shape[-1] == 1:
        return [[[name(number), None]] for number in logits.float()[:, 0].tolist()]
    found = logits.float().softmax(-1).topk(min(TOP, logits.shape[-1]))
    return [
        [[name(id), round(p, 4)] for id, p in zip(*row, strict=True)]
        for row in zip(found.indices.tolist(), found.values.tolist(), strict=True)
    ]


def _targets(prepared: Prepared) -> str:
    stage = prepared.plan.stage(prepared.stage.needs["data"])
    return ", ".join(stage.settings.targets) if stage.kind == "targets" else "original"


def _truncated(counts: Mapping[str, Any]) -> dict[str, float] | None:
    """The share of all training rows that were cut, in percent."""
    if not counts.get("examples"):
        return None
    return {side: 100.0 * counts[f"truncated_{side}"] / counts["examples"] for side in ("source", "target")}


def _step(plan: Plan, step_schedule: StepSchedule, rows: Rows, batch: Batch, settings: TrainSettings) -> dict[str, Any]:
    step = batch.step
    ids = batch.ids if step is None else step.ids
    return {
        "number": None if step is None else step.number,
        "of": step_schedule.num_steps,
        "examples": len(ids),
        "tokens": int(rows.source_lengths[ids].sum() + rows.target_lengths[ids].sum()),
        "micro_batches": batch.of,
        "devices": plan.site.nodes * plan.site.per_node,
        "batch": {"unit": settings.batch.unit, "size": settings.batch.size},
    }


def _batch(batch: Batch, tensors: Mapping[str, Tensor], *, writes: bool) -> dict[str, Any]:
    mask, labels = tensors["attention_mask"], tensors["labels"]
    return {
        "number": batch.number,
        "device": batch.rank,
        "rows": len(batch.ids),
        "source_width": mask.shape[1],
        "target_width": labels.shape[1] if labels.dim() > 1 else 1,
        "padding": {
            "source": 100.0 * (1 - float(mask.sum()) / mask.numel()),
            "target": 100.0 * (1 - float((labels != IGNORED).sum()) / labels.numel()) if writes else 0.0,
        },
    }


def _layers(plan: Plan, objective: Objective, prepared: Prepared) -> list[dict[str, Any]]:
    """Every student layer: where it was copied from, and which teacher layer a term compares it with."""
    student: StudentSettings = prepared.student.settings
    phi = prepared.stage.settings.objective.phi
    shared = () if objective.teacher is None else objective.teacher.shared
    found = []
    for stack in objective.stacks:
        init = getattr(student, stack)
        compared = None if phi is None or stack in shared else getattr(phi, stack)
        for i in range(getattr(student, f"{stack}_layers")):
            found.append(
                {
                    "stack": stack,
                    "layer": i,
                    "copied_from": None if init.layers is None else init.layers[i],
                    "origin": None if init.layers is None else init.origin,
                    "looks_at": None if compared is None else compared[i],
                }
            )
    return found


@torch.no_grad()
def _objective(
    objective: Objective,
    settings: TrainSettings,
    step_schedule: StepSchedule,
    few: Mapping[str, Tensor],
    rows: Rows,
    batch: Batch,
) -> list[dict[str, Any]]:
    """The terms: their weight at this step, what their mean is over and how many of that the step has, their value
    on the shown rows. `schedule`: the ends of a weight that changes."""
    objective.go_to(step_schedule.scheduled(1 if batch.step is None else batch.step.number))
    paths, schedules = objective.paths(), settings.objective.schedules
    ends = {name: [s.initial, s.final] for name, path in paths.items() if (s := schedules.get(path)) is not None}
    ids = batch.ids if batch.step is None else batch.step.ids
    counts = TASKS[settings.task].num_items(rows, ids)
    here = counts_of(few)
    _, raw = objective(few, factors_of(here, world=1))
    return [
        {
            "term": active.name, "weight": objective.weights()[active.name], "schedule": ends.get(active.name),
            "items": active.items, "items_of_step": counts[active.items],
            "value": float(raw[active.name]) / max(1, here[active.items]),
        }
        for active in objective.terms
    ]  # fmt: skip
