"""What is only seen over a whole set of rows: words that the tokenizer does not know, targets without an end, the
names of control tokens in texts, test sources that are trained on.

Nothing of it stops a run: it may be intended. It is a warning, shown once and kept with the artifact.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..messages.notices import Notice

MUCH_UNKNOWN = 1.0  # percent of the tokens of a side
TRAIN = "train"

TokenRow = tuple[Any, Any, Mapping[str, Any]]  # source ids, target ids, raw row


@dataclass
class SetRemarks:
    """Of one split. `texts`: are the targets texts? `unknown`: side -> tokens that stand for what the tokenizer
    does not know; `tokens`: side -> all; `endless`: targets that do not end with an end token; `control`: rows with the
    name of a special token in a text."""

    split: str
    texts: bool = True
    unknown: dict[str, int] = field(default_factory=lambda: {"source": 0, "target": 0})
    tokens: dict[str, int] = field(default_factory=lambda: {"source": 0, "target": 0})
    examples: int = 0
    endless: int = 0
    control: int = 0
    first_control: str = ""
    sources: array[int] = field(default_factory=lambda: array("q"))

    def watch(self, rows: Iterable[TokenRow], tokenizer: Any) -> Iterator[TokenRow]:
        """The token rows (source ids, target ids, raw row) as they come, counted."""
        unknown, end = tokenizer.unk_token_id, tokenizer.eos_token_id
        names = sorted({*tokenizer.all_special_tokens}, key=len, reverse=True)
        control = re.compile("|".join(map(re.escape, names))) if names else None
        for source, target, record in rows:
            self.examples += 1
            for side, ids in (("source", source), ("target", target))[: 2 if self.texts else 1]:
                ids = list(ids)
                self.tokens[side] += len(ids)
                self.unknown[side] += 0 if unknown is None else ids.count(unknown)
            # mBART puts the code of the language behind the end token.
            self.endless += self.texts and bool(record["target"]) and end is not None and end not in list(target[-2:])
            words = [record[name] for name in ("source", "hypothesis", "target") if name in record]
            found = control and next(filter(None, map(control.search, words)), None)
            if found:
                self.control += 1
                self.first_control = self.first_control or f"{found[0]!r} (id {record['id']})"
            read = "\0".join(record[name] for name in ("source", "hypothesis") if name in record)
            digest = hashlib.blake2b(read.encode(), digest_size=8).digest()
            self.sources.append(int.from_bytes(digest, "little", signed=True))
            yield source, target, record

    def unknown_percent(self, side: str) -> float:
        """The share of the tokens of a side that are unknown."""
        return 100 * self.unknown[side] / self.tokens[side] if self.tokens[side] else 0.0

    def counts(self) -> dict[str, int]:
        """The counts as they stand in the summary of the split."""
        return {
            "unknown_source": self.unknown["source"], "unknown_target": self.unknown["target"],
            "endless_targets": self.endless, "control_texts": self.control,
        }  # fmt: skip


def remarks_of(splits: Iterable[SetRemarks], targets: str = "data.columns.target") -> list[Notice]:
    """The warnings for these splits. `targets`: the key of the spec that decides what the targets are."""
    splits = list(splits)
    found: list[Notice] = []
    if told := [words for split in splits if (words := _unknown(split))]:
        found.append(Notice(
            "R213", f"unknown to the tokenizer: {'; '.join(told)}",
            "the model never sees these words: is it the tokenizer of this language, and are the texts clean?",
            "teacher",
        ))  # fmt: skip
    if told := [f"{one.endless:,} of {one.examples:,} of {one.split}" for one in splits if one.endless]:
        found.append(Notice(
            "R214", f"targets without an end token: {'; '.join(told)}",
            "a model that is trained on them does not learn to stop: the tokenizer should put one behind each",
            targets,
        ))  # fmt: skip
    if told := [f"{one.control:,} rows of {one.split}, the first {one.first_control}" for one in splits if one.control]:
        found.append(Notice(
            "R215", f"the names of control tokens in texts: {'; '.join(told)}",
            "the tokenizer takes them for the tokens themselves, an end in the middle: take them out of the data",
            "data.columns",
        ))  # fmt: skip
    trained = [np.frombuffer(one.sources, np.int64) for one in splits if one.split == TRAIN]
    for one in splits if trained else ():
        again = np.isin(np.frombuffer(one.sources, np.int64), np.concatenate(trained))
        if one.split.startswith("test") and again.any():
            found.append(Notice(
                "R216",
                f"{int(again.sum()):,} of {one.examples:,} sources of data.{one.split} are training sources, too, the "
                f"first: row {int(again.argmax()) + 1}",
                "scores on texts that were trained on say nothing about others: take them out of one of the two",
                f"data.{one.split}",
            ))  # fmt: skip
    return found


def in_short(notices: Iterable[Notice]) -> str:
    """The end of a stage's summary line: the warnings, each in a few words."""
    words = {"R213": "unknown tokens", "R214": "targets without an end", "R215": "control tokens in texts",
             "R216": "test sources that are trained on"}  # fmt: skip
    told = list(dict.fromkeys(words[notice.code] for notice in notices))
    return f"; see the warnings: {', '.join(told)}" if told else ""


def _unknown(one: SetRemarks) -> str:
    sides = [f"{one.unknown_percent(side):.0f} % of the {side} tokens" for side in ("source", "target")
             if one.unknown_percent(side) > MUCH_UNKNOWN]  # fmt: skip
    return f"{' and '.join(sides)} of {one.split}" if sides else ""
