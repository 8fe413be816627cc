"""Classification: a text, or a pair of them, is read, and one of a few classes is its answer.

What a row is made of and what counts in it is light; what needs a model is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..data.classes import Classes, classes_of, name_outputs, read_classes, require_names
from ..failure import Failure
from ..plan.plan import Stage
from ..plan.settings import DataSettings
from ..protocol import Evaluation, Items, Task, Timed, Validation

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.rows import Rows
    from ..data.tokenize import Counts, TokenRow
    from ..execution.context import Context


class Classification(Task):
    """A source is read whole, and of its states one is what the head reads; the label is the number of its class, in
    the order of the model's outputs, which the data keep by name (`data/classes.py`)."""

    metrics: tuple[str, ...] = ("accuracy",)
    label_metric = "accuracy"
    pipeline = "text-classification"

    # --- rows ----------------------------------------------------------------------------------------

    def classes(self, settings: DataSettings, folder: Path) -> Classes | None:
        return classes_of(settings.labels, folder)

    def configure(self, student: Any, teacher: Any | None, data: Path) -> None:
        names = read_classes(data)
        require_names(student.config, names, "the model that is trained", retrained=True)
        if teacher is not None:
            require_names(teacher.config, names, "the teacher")
        name_outputs(student.config, names)

    def tokenize(
        self,
        rows: Iterable[dict[str, Any]],
        tokenizer: Any,
        settings: DataSettings,
        counts: Counts,
        on_progress: Callable[[int], None],
    ) -> Iterator[TokenRow]:
        """Pairs are cut longest first, the special tokens stay. Raises `Failure` R208: a row has more end tokens than
        the tokenizer puts there, and BART classifies from the last one."""
        from ..data.tokenize import CHUNK_ROWS, prepare

        prepare(tokenizer, settings)
        encode_target = self.encode_target(settings)
        num_ends = None
        iterator = iter(rows)
        while chunk := list(islice(iterator, CHUNK_ROWS)):
            for row, (ids, types, cut) in zip(chunk, encoded(chunk, tokenizer, settings), strict=True):
                ends = ids.count(tokenizer.eos_token_id)
                num_ends = _num_ends(tokenizer, paired="hypothesis" in row) if num_ends is None else num_ends
                if ends != num_ends:
                    raise _ends_in_text(row, tokenizer, ends, num_ends)
                counts.examples += 1
                counts.source_tokens += len(ids)
                counts.target_tokens += 1
                counts.truncated_source += cut
                yield ids, [encode_target(row["target"])], {**row, "token_types": types} if any(types) else row
            on_progress(counts.examples)

    def encode_target(self, settings: DataSettings) -> Callable[[str], float]:
        """From the target of a row to what stands for it in the token rows: the number of its class."""
        outputs = {name: i for i, name in enumerate(settings.labels or ())}
        return outputs.__getitem__

    def whole_lengths(self, raw: Mapping[str, Any], tokenizer: Any, settings: DataSettings) -> dict[str, int]:
        texts = [settings.prefix + raw["source"], *([raw["hypothesis"]] if "hypothesis" in raw else [])]
        return {"source": len(tokenizer(*texts)["input_ids"]), "target": 1}

    def collate(self, rows: Rows, ids: Any, pad_id: int) -> dict[str, Tensor]:
        import torch

        from ..data.batches import collate

        batch = collate(rows, ids, pad_id)
        found = {**batch, "labels": batch["labels"][:, 0]}  # (B,)
        types = [rows.token_types(int(i)) for i in ids]
        if any(of_row is not None for of_row in types):
            found["token_type_ids"] = torch.zeros_like(batch["input_ids"])
            for b, of_row in enumerate(types):
                if of_row is not None:
                    found["token_type_ids"][b, : len(of_row)] = torch.from_numpy(of_row.astype("int64"))
        return found

    def num_items(self, rows: Rows, ids: Any) -> dict[Items, int]:
        return {
            "label-tokens": len(ids),
            "source-tokens": int(rows.source_lengths[ids].sum()),
            "examples": len(ids),
        }

    # --- answers -------------------------------------------------------------------------------------

    def evaluation(self, stage: Stage, context: Context) -> Evaluation:
        from .classified import Evaluation

        return Evaluation(self, stage, context)

    def validate(self, asked: Validation) -> dict[str, float]:
        from .classified import validate

        return validate(self, asked)

    def usage(self, text: str) -> list[str]:
        return [
            "from transformers import pipeline",
            "",
            'classify = pipeline("text-classification", model=folder)',
            f"print(classify({text}, top_k=None))",
        ]

    def timed(self, stage: Stage, context: Context, split: str) -> list[Timed]:
        from .row_logits import timed

        return timed(stage, context, split)


CLASSIFICATION = Classification()


def encoded(
    rows: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    settings: DataSettings,
    truncation: Literal["longest_first", "only_first"] = "longest_first",
) -> Iterator[tuple[list[int], list[int], bool]]:
    """(token ids, at most `max_source_tokens`; which text each is of, as the tokenizer marks it; was it cut?) of the
    texts of some rows, or of their pairs. `truncation`: which text of a pair is cut."""
    limit = settings.max_source_tokens
    firsts = [settings.prefix + row["source"] for row in rows]
    seconds = [row["hypothesis"] for row in rows] if rows and "hypothesis" in rows[0] else None
    whole = tokenizer(firsts, seconds)
    for i, ids in enumerate(whole["input_ids"]):
        found, of = whole, i
        if len(ids) > limit:
            pair = (firsts[i : i + 1], None if seconds is None else seconds[i : i + 1])
            found, of = tokenizer(*pair, truncation=truncation, max_length=limit), 0
        kept = found["input_ids"][of]
        yield kept, found["token_type_ids"][of] if "token_type_ids" in found else [0] * len(kept), len(ids) > limit


def _num_ends(tokenizer: Any, *, paired: bool) -> int:
    """How many end tokens the tokenizer puts into a row."""
    ids: list[int] = tokenizer(*["a"] * (1 + paired))["input_ids"]
    return ids.count(tokenizer.eos_token_id)


def _ends_in_text(row: Mapping[str, Any], tokenizer: Any, ends: int, num_ends: int) -> Failure:
    return Failure(
        "R208",
        f"the example {row['id']} has {ends} end tokens ({tokenizer.eos_token}), and others have {num_ends}: its text "
        "holds one, and the model would classify from a token in the middle",
        f"take {tokenizer.eos_token} out of the text",
        spec_path="data",
    )
