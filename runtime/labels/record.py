"""One label: a line of `labels.jsonl`, for one training row.

The file has one JSON object a training row, in the order of the data:

    id, source_sha256   the row that it is for: the id, and the hash of the source as it was read
    text                the label; null: there is none (labels of a file that lacks the row)
    score               the labeller's own: summed log-probability over length ** length_penalty; null: not known
    rouge2, bleu        against the original target, in percent: ROUGE-2 in summarization, sentence BLEU in
                        translation, the other one, too, where a rule asks for it
    kept, dropped       is it a target; if not, the rule that it failed
    at_limit            only of a text that ends at the length limit: this limit, as `max_length` counts it
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..failure import Failure

FILE = "labels.jsonl"
DECIMALS = 4  # of scores and qualities: what differs behind them is noise


@dataclass(frozen=True, kw_only=True)
class Label:
    """See the module's text. `dropped` None: it is kept; `quality`: metric -> percent; `at_limit` None: it ends by
    itself, or that is not known."""

    id: str
    source_sha256: str
    text: str | None
    score: float | None
    quality: Mapping[str, float]
    dropped: str | None
    at_limit: int | None = None

    def line(self) -> str:
        """The line of `labels.jsonl`, with its end."""
        record: dict[str, Any] = {"id": self.id, "source_sha256": self.source_sha256, "text": self.text}
        record["score"] = None if self.score is None else round(self.score, DECIMALS)
        record |= {metric: round(value, DECIMALS) for metric, value in self.quality.items()}
        record["kept"] = self.dropped is None
        if self.dropped is not None:
            record["dropped"] = self.dropped
        if self.at_limit is not None:
            record["at_limit"] = self.at_limit
        return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def parse(line: str | bytes) -> Label:
    """The label that a line of `labels.jsonl` says."""
    record = json.loads(line)
    of_all = ("id", "source_sha256", "text", "score", "kept", "dropped", "at_limit")
    return Label(
        id=record["id"],
        source_sha256=record["source_sha256"],
        text=record["text"],
        score=record["score"],
        quality={name: value for name, value in record.items() if name not in of_all},
        dropped=record.get("dropped"),
        at_limit=record.get("at_limit"),
    )


def source_hash(source: str) -> str:
    """The sha256 of a source text, 64 hexadecimal digits."""
    return hashlib.sha256(source.encode()).hexdigest()


def read_labels(folder: Path) -> Iterator[Label]:
    """The labels of an artifact, in the order of the data. `Failure` R347: the file is not what it should be."""
    try:
        with (folder / FILE).open("rb") as lines:
            for line in lines:
                yield parse(line)
    except (OSError, ValueError, KeyError) as error:
        raise Failure("R347", f"cannot read {folder / FILE}: {error}",
                      "make the labels again: --redo with the id of their stage") from error  # fmt: skip
