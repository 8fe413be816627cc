"""The objective of a plan: what one micro-batch contributes to the loss of its optimizer step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..models.freeze import set_train_mode
from ..plan import ObjectiveSettings
from ..protocol import Items, ModelOutputs, TermInputs
from .assembly import assemble
from .terms import labels_term, num_label_tokens


class Objective(nn.Module):
    """The student and the terms that train it.

    forward(batch) takes input_ids (B, S), attention_mask (B, S), labels (B, T) and returns the terms, each
    summed over its valid items: {"labels": scalar}. `total` divides and weighs them. Frozen parts stay in eval
    mode (no dropout) whatever `train()` is told, and a frozen encoder runs without a graph.
    """

    def __init__(self, student: nn.Module, settings: ObjectiveSettings, freeze: tuple[str, ...]) -> None:
        super().__init__()
        self.student: Any = student
        self.terms = assemble(settings)
        self.freeze = freeze

    def train(self, mode: bool = True) -> Objective:
        """train() for what is trained; what is frozen stays in eval."""
        super().train(mode)
        if mode:
            set_train_mode(self.student, self.freeze)
        return self

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        inputs = TermInputs(
            student=ModelOutputs(logits=self.logits(batch)),  # (B, T, V)
            teacher=None,
            labels=batch["labels"],
            source_mask=batch["attention_mask"].bool(),
            phi={},
        )
        return {active.name: active.sum(inputs) for active in self.terms}

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Student logits (B, T, V) at every label position, teacher-forced."""
        model = self.student
        decoder_input_ids = model.prepare_decoder_input_ids_from_labels(labels=batch["labels"])  # (B, T)
        encoder_outputs = None
        if "encoder" in self.freeze:
            with torch.no_grad():
                encoder_outputs = model.get_encoder()(
                    input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
                )
        output = model(
            input_ids=None if encoder_outputs is not None else batch["input_ids"],
            attention_mask=batch["attention_mask"],
            encoder_outputs=encoder_outputs,
            decoder_input_ids=decoder_input_ids,
            use_cache=False,
        )
        logits: Tensor = output.logits
        return logits

    @torch.no_grad()
    def label_loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """For validation: (2,) float64, the unsmoothed cross-entropy summed over label tokens, and their number."""
        loss = labels_term(self.logits(batch), batch["labels"], smoothing=0.0)
        return torch.stack([loss.double(), num_label_tokens(batch["labels"]).double()])

    def weights(self) -> dict[str, float]:
        """Term -> weight."""
        return {active.name: active.weight for active in self.terms}

    def items(self) -> dict[str, Items]:
        """Term -> what its mean is over."""
        return {active.name: active.items for active in self.terms}


def total(
    terms: Mapping[str, Tensor], weights: Mapping[str, float], counts: Mapping[str, int], world: int
) -> Tensor:
    """What one micro-batch contributes to the loss of its step, times `world`, by which DeepSpeed divides when
    it averages over ranks; scalar. `terms`: summed over the micro-batch; `counts`: term -> its items in the
    whole step, on all ranks."""
    values = [weights[name] * term * (world / counts[name]) for name, term in terms.items()]
    return torch.stack(values).sum()
