"""A good baseline of today: transformers' Seq2SeqTrainer with rows grouped by length, the frozen encoder run once
without gradients for both models, and the distillation loss on the selected positions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Sampler
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback
from transformers.trainer_pt_utils import get_length_grouped_indices

from distilc.runtime.data.batches import collate

from . import setting as s


class DistillationTrainer(Seq2SeqTrainer):
    """`after_epoch` is called between epochs and is in nobody's time; `epoch_seconds` are."""

    def __init__(self, setting: s.Setting, after_epoch: Callable[[int], None]) -> None:
        self.source_lengths = setting.rows.source_lengths.tolist()
        self.teacher = setting.decoder_teacher()
        self.epochs = _Epochs(after_epoch)
        arguments = Seq2SeqTrainingArguments(
            output_dir=str(setting.folder / "trainer"), num_train_epochs=s.EPOCHS, learning_rate=s.LEARNING_RATE,
            per_device_train_batch_size=s.BATCH_EXAMPLES, train_sampling_strategy="group_by_length",
            lr_scheduler_type="linear", weight_decay=0.0, max_grad_norm=s.CLIPPING, use_cpu=True, seed=0,
            dataloader_pin_memory=False, remove_unused_columns=False, save_strategy="no", logging_strategy="no",
            report_to=[], disable_tqdm=True,
        )  # fmt: skip
        super().__init__(
            model=setting.new_student(), args=arguments, train_dataset=range(len(setting.rows)),
            data_collator=lambda ids: collate(setting.rows, ids, s.PAD), callbacks=[self.epochs],
        )  # fmt: skip

    @property
    def epoch_seconds(self) -> list[float]:
        return self.epochs.seconds

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        """Its own grouping, as it would be in a large data set: 50 batches are sorted together (of so few rows it
        would sort two or three, and pad more)."""
        return _Grouped(self.source_lengths)

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        labels, attention_mask = inputs["labels"], inputs["attention_mask"]
        decoder_input_ids = model.prepare_decoder_input_ids_from_labels(labels=labels)
        with torch.no_grad():
            states = model.get_encoder()(input_ids=inputs["input_ids"], attention_mask=attention_mask).last_hidden_state
        asked: dict[str, Any] = {
            "attention_mask": attention_mask,
            "encoder_outputs": (states,),
            "decoder_input_ids": decoder_input_ids,
            "output_hidden_states": True,
            "use_cache": False,
        }
        ours = model(**asked)
        with torch.no_grad():
            theirs = self.teacher(**asked)
        valid = labels != -100
        label_loss = functional.cross_entropy(ours.logits.flatten(0, 1), labels.flatten())
        log_student = functional.log_softmax(ours.logits[valid] / s.TEMPERATURE, dim=-1)
        log_teacher = functional.log_softmax(theirs.logits[valid] / s.TEMPERATURE, dim=-1)
        kl = functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * s.TEMPERATURE**2
        hidden = torch.stack([
            functional.mse_loss(own[valid], theirs.decoder_hidden_states[layer + 1][valid])
            for own, layer in zip(ours.decoder_hidden_states[1:], s.PHI, strict=True)
        ]).sum()  # fmt: skip
        return s.LABELS * label_loss + s.LOGITS * kl + s.HIDDEN * hidden


class _Grouped(Sampler[int]):
    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Any:
        return iter(get_length_grouped_indices(self.lengths, s.BATCH_EXAMPLES, mega_batch_mult=50))


class _Epochs(TrainerCallback):  # type: ignore[misc]
    def __init__(self, after: Callable[[int], None]) -> None:
        self.after = after
        self.seconds: list[float] = []
        self.started = 0.0

    def on_epoch_begin(self, *arguments: Any, **named: Any) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, *arguments: Any, **named: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)
        self.after(len(self.seconds) - 1)
