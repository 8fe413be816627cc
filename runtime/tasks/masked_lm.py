"""Masked language models: some tokens of a text are hidden, and predicted from those around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..plan.plan import Stage
from ..plan.settings import DataSettings, TrainSettings
from ..protocol import Evaluation, Items, Task, Timed, Validation

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ..data.rows import Rows
    from ..data.tokenize import Counts, TokenRow
    from ..execution.context import Context


class MaskedLm(Task):
    """Texts are cut into blocks. Which tokens are predicted is drawn anew in each epoch of a training, and the same in
    all validations and evaluations (`data/masking.py`); labels are (B, S)."""

    metrics = ("loss", "pseudo_perplexity", "masked_accuracy")
    label_metric = ""  # nothing is written: there are no pseudo-labels
    pipeline = "fill-mask"

    # --- rows ----------------------------------------------------------------------------------------

    def tokenize(
        self,
        rows: Iterable[dict[str, Any]],
        tokenizer: Any,
        settings: DataSettings,
        counts: Counts,
        on_progress: Callable[[int], None],
    ) -> Iterator[TokenRow]:
        from ..data.blocks import blocks

        return blocks(rows, tokenizer, settings, counts, on_progress)

    def finish_data(self, folder: Path, tokenizer: Any) -> None:
        import numpy as np

        from ..data.masking import write_counts

        write_counts(folder, np.load(folder / "train.source.npy", mmap_mode="r"), tokenizer)

    def whole_lengths(self, raw: Mapping[str, Any], tokenizer: Any, settings: DataSettings) -> dict[str, int]:
        """Nothing is cut off: a longer text is several rows."""
        length = len(tokenizer(raw["source"])["input_ids"])
        return {"source": min(length, settings.max_source_tokens), "target": 0}

    def drawn(self, rows: Rows, ids: Any, tokenizer: Any, settings: TrainSettings, epoch: int | None) -> Rows:
        from ..data.masking import choice_of, masked_alike, masked_anew, read_counts

        if epoch is None:
            return masked_alike(rows, choice_of(tokenizer))
        masking = settings.masking
        assert masking is not None  # of a training of this task
        choice = choice_of(tokenizer, read_counts(rows.folder), masking.rare)
        return masked_anew(rows, ids, choice, masking, settings.seed, epoch)

    def collate(self, rows: Rows, ids: Any, pad_id: int) -> dict[str, Tensor]:
        from ..data.batches import collate

        return collate(rows, ids, pad_id)

    def num_items(self, rows: Rows, ids: Any) -> dict[Items, int]:
        return {
            "label-tokens": sum(int((rows.target(int(i)) >= 0).sum()) for i in ids),
            "source-tokens": int(rows.source_lengths[ids].sum()),
            "examples": len(ids),
        }

    # --- answers -------------------------------------------------------------------------------------

    def evaluation(self, stage: Stage, context: Context) -> Evaluation:
        from .masked_tokens import Evaluation

        return Evaluation(self, stage, context)

    def validate(self, asked: Validation) -> dict[str, float]:
        from .masked_tokens import validate

        return validate(self, asked)

    def usage(self, text: str) -> list[str]:
        return [
            "from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline",
            "",
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
            "model = AutoModelForMaskedLM.from_pretrained(folder)",
            'fill = pipeline("fill-mask", model=model, tokenizer=tokenizer)',
            f"words = {text}.split()",
            "words[len(words) // 2] = tokenizer.mask_token",
            'print(fill(" ".join(words)))',
        ]

    def timed(self, stage: Stage, context: Context, split: str) -> list[Timed]:
        from .masked_tokens import timed

        return timed(stage, context, split)


MASKED_LM = MaskedLm()
