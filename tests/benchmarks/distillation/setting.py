"""What all three algorithms get: the same teacher, student, rows, weights of the loss, learning rates.

The shape is BART-large's, 12-12 layers to 12-3, made narrow enough for two cores: width and vocabulary by 3/8, 384 and
18,849 for 1,024 and 50,265. A product with the vocabulary then weighs what it weighs in BART-large, beside a layer;
with the whole vocabulary at this width it would weigh 2.7 times that, and every ratio of whole trainings would be
about a quarter lower.

Lengths are XSUM's at half scale (358 words to 21, 1.3 tokens a word, cut at 1,024 and 60 tokens): log-normal, the
sources with a long tail, the targets with a short one. Tokens are drawn, so that nothing needs to be downloaded: the
targets by Zipf's law and partly from their source. The teacher's weights are drawn, too, wide enough for its
distributions not to be flat. No dropout anywhere.
"""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distilc.runtime.data.rows import Rows, write_rows
from distilc.runtime.models.freeze import freeze

PAD, START, END = 1, 2, 2  # BART's
VOCABULARY = 18_849
WIDTH = 384
COPIED = (0, 6, 11)  # domain facts: 12 -> 3
PHI = (3, 7, 11)
FROZEN = ("encoder", "embeddings", "positions")

NUM_ROWS = 96
NUM_EVALUATION_ROWS = 32
BATCH_EXAMPLES = 16
EPOCHS = 5
LEARNING_RATE = 3e-4  # linear, down to zero
CLIPPING = 1.0

LABELS, LOGITS, HIDDEN = 1.0, 0.8, 3.0  # weights
TEMPERATURE = 2.0

_SCALE = 0.5
_SOURCE = (358 * 1.3 * _SCALE, 0.6, int(1024 * _SCALE))  # mean, sigma of the logarithm, most
_TARGET = (21 * 1.3 * _SCALE, 0.25, int(60 * _SCALE))


@dataclass(frozen=True)
class Setting:
    """`teacher` is whole and frozen; `new_student()` gives the same weights each time."""

    teacher: Any
    student: Any
    rows: Rows
    evaluation_rows: Rows
    folder: Path

    def new_student(self) -> Any:
        model = copy.deepcopy(self.student)
        freeze(model, FROZEN)
        return model

    def decoder_teacher(self) -> Any:
        """The teacher without the layers of its encoder: the student's states serve it."""
        model = copy.deepcopy(self.teacher).eval().requires_grad_(False)
        model.model.encoder.layers = torch.nn.ModuleList()
        return model


def make_setting(num_rows: int = NUM_ROWS) -> Setting:
    """Models and rows, in a folder of their own."""
    folder = Path(tempfile.mkdtemp())
    random = np.random.default_rng(0)
    for split, number in (("train", num_rows), ("validation", NUM_EVALUATION_ROWS)):
        write_rows(folder, split, [_row(random) for _ in range(number)])
    teacher = _bart(decoder_layers=12)
    student = _bart(decoder_layers=len(COPIED))
    state = teacher.state_dict()
    for name in student.state_dict():
        stem, _, rest = name.partition("decoder.layers.")
        if rest:
            layer, _, inside = rest.partition(".")
            state[name] = teacher.state_dict()[f"{stem}decoder.layers.{COPIED[int(layer)]}.{inside}"]
    student.load_state_dict({name: state[name] for name in student.state_dict()})
    teacher.eval().requires_grad_(False)
    return Setting(teacher, student, Rows.open(folder, "train"), Rows.open(folder, "validation"), folder)


def num_padded(batches: list[dict[str, torch.Tensor]]) -> float:
    """The share of padding in the sources of padded batches."""
    masks = [batch["attention_mask"] for batch in batches]
    return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)


def _bart(decoder_layers: int) -> Any:
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=VOCABULARY, d_model=WIDTH, encoder_layers=12, decoder_layers=decoder_layers,
        encoder_attention_heads=WIDTH // 64, decoder_attention_heads=WIDTH // 64, encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH, max_position_embeddings=1024, dropout=0.0, init_std=0.06,
        pad_token_id=PAD, bos_token_id=0, eos_token_id=END, decoder_start_token_id=START,
    )  # fmt: skip
    return BartForConditionalGeneration(config)


def _row(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    source, target = (_tokens(random, _length(random, *side)) for side in (_SOURCE, _TARGET))
    copied = random.random(len(target)) < 0.3
    target[copied] = random.choice(source[1:-1], int(copied.sum()))
    target[0], target[-1] = 0, END
    return source, target, {"id": "", "source": "", "target": ""}


def _length(random: np.random.Generator, mean: float, sigma: float, most: int) -> int:
    return int(np.clip(random.lognormal(np.log(mean) - sigma**2 / 2, sigma), 8, most))


def _tokens(random: np.random.Generator, length: int) -> np.ndarray:
    ids = (random.zipf(1.2, length) - 1) % (VOCABULARY - 4) + 4
    ids[0], ids[-1] = 0, END
    return ids
