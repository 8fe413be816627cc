"""Texts -> blocks of tokens that a model reads whole (masked language models; domain facts 7.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from ..failure import Failure
from ..plan.settings import DataSettings
from .tokenize import CHUNK_ROWS, LONGEST, Counts, TokenRow

SHORTEST = 12  # tokens of a block, special ones among them
MOST_UNKNOWN = 0.5  # of its tokens; a block with as many is left out


def blocks(
    rows: Iterable[dict[str, Any]],
    tokenizer: Any,
    settings: DataSettings,
    counts: Counts,
    on_progress: Callable[[int], None],
) -> Iterator[TokenRow]:
    """(ids, no target, raw row) of each block; counts as it goes.

    A text with more than `max_source_tokens` is cut into blocks, around each of which stands what the tokenizer puts
    around a text. The raw row of a block has its text, and from the second on a number behind the id. Blocks with fewer
    than 12 tokens, or half of them unknown, are left out.

    Raises `Failure` R218: the tokenizer has no mask token; R204: nothing is left.
    """
    if tokenizer.mask_token_id is None:
        raise Failure(
            "R218",
            "the tokenizer has no mask token: nothing can be masked",
            "take the tokenizer of a model that was trained on masked texts (BERT, RoBERTa, DistilBERT)",
            spec_path="teacher",
        )
    tokenizer.model_max_length = LONGEST
    before, after = _around(tokenizer)
    room = settings.max_source_tokens - len(before) - len(after)
    special = {*tokenizer.all_special_ids}
    iterator, texts = iter(rows), 0
    while chunk := list(islice(iterator, CHUNK_ROWS)):
        encoded = tokenizer([row["source"] for row in chunk], add_special_tokens=False, return_offsets_mapping=True)
        for row, ids, spans in zip(chunk, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            texts += 1
            for number, start in enumerate(range(0, len(ids), max(1, room)), start=1):
                block = [*before, *ids[start : start + room], *after]
                if not _is_read(block, tokenizer.unk_token_id, special):
                    counts.left_out += 1
                    continue
                counts.examples += 1
                counts.source_tokens += len(block)
                yield block, [], _raw(row, spans[start : start + room], number)
        on_progress(counts.examples)
    if not counts.examples:
        raise Failure(
            "R204",
            f"nothing is left of {texts:,} texts: each block has fewer than {SHORTEST} tokens, or is half unknown to "
            "the tokenizer",
            f"take longer texts, and max_source_tokens of {SHORTEST} or more; lines can be joined to paragraphs",
            spec_path="data",
        )


def _raw(row: dict[str, Any], spans: Sequence[tuple[int, int]], number: int) -> dict[str, Any]:
    text = row["source"][spans[0][0] : spans[-1][1]]
    return {"id": row["id"] if number == 1 else f"{row['id']}#{number}", "source": text, "target": ""}


def _is_read(block: Sequence[int], unknown: int | None, special: set[int]) -> bool:
    if len(block) < SHORTEST or all(id in special for id in block):
        return False
    return sum(id == unknown for id in block) < MOST_UNKNOWN * len(block)


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and behind a text, seen on one."""
    whole, bare = (tokenizer("a", add_special_tokens=added)["input_ids"] for added in (True, False))
    start = next(i for i in range(len(whole) + 1) if whole[i : i + len(bare)] == bare)
    return whole[:start], whole[start + len(bare) :]
