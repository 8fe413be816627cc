"""Summarization and translation: a text is read, and another is written.

What a row is made of and what counts in it is light; what needs a model is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..messages.notices import Notice
from ..plan.plan import Stage
from ..plan.settings import DataSettings, Scoring
from ..protocol import Evaluation, Items, Task, Timed, Validation

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.rows import Rows
    from ..data.tokenize import Counts, TokenRow
    from ..execution.context import Context

WORTHLESS_BLEU = 1.0  # a translation of which next to no words are those of the reference


class Seq2Seq(Task):
    """A source is read whole; the labels are the target's tokens, its end among them, each predicted from those before
    it."""

    def __init__(self, *, metrics: tuple[str, ...], label_metric: str, pipeline: str) -> None:
        self.metrics, self.label_metric, self.pipeline = metrics, label_metric, pipeline

    # --- rows ----------------------------------------------------------------------------------------

    def tokenize(
        self,
        rows: Iterable[dict[str, Any]],
        tokenizer: Any,
        settings: DataSettings,
        counts: Counts,
        on_progress: Callable[[int], None],
    ) -> Iterator[TokenRow]:
        from ..data.tokenize import tokenize

        return tokenize(rows, tokenizer, settings, counts, on_progress)

    def whole_lengths(self, raw: Mapping[str, Any], tokenizer: Any, settings: DataSettings) -> dict[str, int]:
        source = tokenizer(settings.prefix + raw["source"])["input_ids"]
        target = tokenizer(text_target=raw["target"])["input_ids"]
        return {"source": len(source), "target": len(target)}

    def collate(self, rows: Rows, ids: Any, pad_id: int) -> dict[str, Tensor]:
        from ..data.batches import collate

        return collate(rows, ids, pad_id)

    def num_items(self, rows: Rows, ids: Any) -> dict[Items, int]:
        return {
            "label-tokens": int(rows.target_lengths[ids].sum()),
            "source-tokens": int(rows.source_lengths[ids].sum()),
            "examples": len(ids),
        }

    # --- answers -------------------------------------------------------------------------------------

    def evaluation(self, stage: Stage, context: Context) -> Evaluation:
        from .written import Evaluation

        return Evaluation(self, stage, context, partial(self.baselines, stage.settings.scoring), below_baseline)

    def baselines(
        self, scoring: Scoring, rows: Rows, num_examples: int, metrics: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """Baseline -> metric -> {value, ...}. None here."""
        return {}

    def validate(self, asked: Validation) -> dict[str, float]:
        from .written import validate

        return validate(asked)

    def usage(self, text: str) -> list[str]:
        return [
            "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer",
            "",
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
            "model = AutoModelForSeq2SeqLM.from_pretrained(folder)",
            f'inputs = tokenizer({text}, return_tensors="pt")',
            "# generation_config.json, beside the weights, has the settings that it inherited from the teacher",
            "print(tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True)[0])",
        ]

    def timed(self, stage: Stage, context: Context, split: str) -> list[Timed]:
        from .written import timed

        return timed(stage, context, split)


class Summarization(Seq2Seq):
    """The baseline is the beginning of the source."""

    def baselines(
        self, scoring: Scoring, rows: Rows, num_examples: int, metrics: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        return {"lead": lead(rows, num_examples, metrics, scoring)}


SUMMARIZATION = Summarization(
    metrics=("rouge1", "rouge2", "rougeL", "rougeLsum"), label_metric="rouge2", pipeline="summarization"
)
TRANSLATION = Seq2Seq(metrics=("bleu", "chrf"), label_metric="bleu", pipeline="translation")


def lead(rows: Rows, num_examples: int, metrics: Sequence[str], scoring: Scoring) -> dict[str, Any]:
    """The baseline that every summary must beat: the first sentences of the source, as many as the references
    have on average."""

    from ..data.rows import references_of
    from ..metrics.score import score, with_line_breaks
    from ..metrics.sentences import split_sentences

    def sentences(text: str) -> list[str]:
        text = with_line_breaks(text, scoring.line_break)
        return split_sentences(text, any_script=scoring.rouge_tokenizer == "unicode")

    records = [rows.raw(i) for i in range(num_examples)]
    num_sentences = max(1, round(sum(len(sentences(record["target"])) for record in records) / num_examples))
    leads = [" ".join(sentences(record["source"])[:num_sentences]) for record in records]
    return score(metrics, leads, [references_of(record) for record in records], scoring)


def below_baseline(name: str, scores: Mapping[str, Any], baseline: Mapping[str, Any]) -> Notice | None:
    """A teacher that writes worse than who copies the beginning, or, where there is no such baseline, next to nothing
    of what it should: nobody learns to write from it. `name`: of the test set; `scores`, `baseline`: metric ->
    {value, ...}."""
    if not baseline:
        bleu = scores["bleu"]["value"] if "bleu" in scores else WORTHLESS_BLEU
        return _told(f"on {name} the teacher's bleu is {bleu:.2f}") if bleu < WORTHLESS_BLEU else None
    metric = "rouge2" if "rouge2" in baseline else next(iter(baseline))
    ours, theirs = scores[metric]["value"], baseline[metric]["value"]
    if ours >= theirs:
        return None
    return _told(
        f"on {name} the teacher's {metric} is {ours:.2f}, and that of the lead baseline, the first sentences of the "
        f"source, is {theirs:.2f}"
    )


def _told(message: str) -> Notice:
    return Notice(
        "R365",
        message,
        "a student learns what its teacher can: stop here, and train the teacher longer (`teacher.train`), take "
        "another, or look at its generation (`evaluation.teacher_generation`)",
        "teacher",
    )
