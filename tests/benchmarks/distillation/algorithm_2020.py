"""The distillation of 2020, written plainly: what a step of the research code did, in its order.

Random batches, padded to their longest row. The student's whole forward pass, its encoder included; the teacher's
decoder on the same encoder states; all hidden states of both; logits of all positions, those of padding masked out
afterwards. Source: domain facts 3 and 4.3.

Mended, so that it minimises the same objective as the others: the mask is the labels' (it was that of the decoder's
input), hidden states are compared at layer outputs (they were one layer off), the smoothing-free label loss, no
dropout. It runs the teacher without gradients, as the code of the paper did.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import get_linear_schedule_with_warmup

from distilc.runtime.data.batches import collate

from . import setting as s


class Algorithm2020:
    def __init__(self, setting: s.Setting) -> None:
        self.rows = setting.rows
        self.student = setting.new_student()
        self.teacher = setting.decoder_teacher()
        steps = -(-len(self.rows) // s.BATCH_EXAMPLES)
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=s.LEARNING_RATE, weight_decay=0.0)
        self.schedule = get_linear_schedule_with_warmup(self.optimizer, 0, s.EPOCHS * steps)

    def epoch(self, epoch: int) -> None:
        for batch in self.batches(epoch):
            self.step(batch)

    def batches(self, epoch: int) -> Iterator[dict[str, Tensor]]:
        """Random rows."""
        order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(epoch)).numpy()
        for start in range(0, len(order), s.BATCH_EXAMPLES):
            yield collate(self.rows, order[start : start + s.BATCH_EXAMPLES], s.PAD)

    def step(self, batch: dict[str, Tensor]) -> None:
        self.student.train()
        self.optimizer.zero_grad()
        self.loss(batch).backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), s.CLIPPING)
        self.optimizer.step()
        self.schedule.step()

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        labels = batch["labels"].masked_fill(batch["labels"] == -100, s.PAD)  # (B, T)
        decoder_input_ids = self.student.prepare_decoder_input_ids_from_labels(labels=labels)
        asked: dict[str, Any] = {
            "attention_mask": batch["attention_mask"],
            "decoder_input_ids": decoder_input_ids,
            "output_hidden_states": True,
            "use_cache": False,
        }
        ours = self.student(input_ids=batch["input_ids"], **asked)
        with torch.no_grad():
            theirs = self.teacher(encoder_outputs=(ours.encoder_last_hidden_state,), **asked)
        mask = labels != s.PAD
        label_loss = functional.cross_entropy(ours.logits.flatten(0, 1), labels.flatten(), ignore_index=s.PAD)
        states = zip(ours.decoder_hidden_states[1:], s.PHI, strict=True)
        pairs = [(own, theirs.decoder_hidden_states[layer + 1]) for own, layer in states]
        hidden = self._hidden(torch.stack([own for own, _ in pairs]), torch.stack([other for _, other in pairs]), mask)
        return s.LABELS * label_loss + s.LOGITS * self._logits(ours.logits, theirs.logits, mask) + s.HIDDEN * hidden

    def _logits(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        wide = mask.unsqueeze(-1).expand_as(student)  # (B, T, V)
        selected = [logits.masked_select(wide).view(-1, logits.shape[-1]) for logits in (student, teacher)]
        log_student = functional.log_softmax(selected[0] / s.TEMPERATURE, dim=-1)
        p_teacher = functional.softmax(selected[1] / s.TEMPERATURE, dim=-1)
        return functional.kl_div(log_student, p_teacher, reduction="batchmean") * s.TEMPERATURE**2

    def _hidden(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        """student, teacher (pairs, B, T, d)."""
        wide = mask.to(student)[None, :, :, None]
        error = functional.mse_loss(student, teacher, reduction="none") * wide
        return error.sum() / (mask.sum() * student.shape[-1])
