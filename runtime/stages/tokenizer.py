"""The `tokenizer` stage: the texts of the training data -> a tokenizer folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..data.sources import read_sources
from ..data.train_tokenizer import train_tokenizer
from ..execution.context import Context
from ..models.families import family_of
from ..plan.plan import Stage
from ..plan.settings import TokenizerSettings
from ..protocol import StageKind

MAX_LENGTH = 1_000_000_000  # the tokenizer itself has no limit; the data stage cuts


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """Train on all texts alike: the stacks share the vocabulary. Names of classes are none (`TokenizerSettings`)."""
    settings: TokenizerSettings = stage.settings
    rows = read_sources(
        settings.train, settings.columns, "train", stage.execution.locations, context.plan.site.offline
    )
    with context.progress.task("training the tokenizer", None, "examples") as update:

        def texts() -> Iterator[str]:
            for number, row in enumerate(rows):
                yield from (row[text] for text in ("source", "hypothesis", "target") if row.get(text))
                if number % 1000 == 0:
                    update(number)

        tokenizer = train_tokenizer(
            texts(), settings.algorithm, settings.vocab_size, family_of(settings.family), MAX_LENGTH
        )
    tokenizer.save_pretrained(context.folder)
    return {"vocab_size": len(tokenizer), "line": f"{len(tokenizer):,} tokens"}


TOKENIZER = StageKind(run=run, parallel=False)
