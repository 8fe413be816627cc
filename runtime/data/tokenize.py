"""Texts -> token rows, by the tokenizer of the teacher (the student shares it)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, tee
from typing import Any

from ..failure import Failure
from ..plan.settings import DataSettings, PseudoLabelSettings

CHUNK_ROWS = 1024
LONGEST = 1_000_000_000  # too long rows are cut here; the tokenizer need not warn of them

TokenRow = tuple[list[int], Sequence[float], dict[str, Any]]  # a target is ids or, of a regression, a number


@dataclass
class Counts:
    """What became of a split. `left_out`: blocks too short, or too little known to the tokenizer."""

    examples: int = 0
    source_tokens: int = 0
    target_tokens: int = 0
    truncated_source: int = 0
    truncated_target: int = 0
    left_out: int = 0


def tokenize(
    rows: Iterable[dict[str, Any]],
    tokenizer: Any,
    settings: DataSettings,
    counts: Counts,
    on_progress: Callable[[int], None],
) -> Iterator[TokenRow]:
    """(source ids, target ids, raw row) of each row; counts as it goes. Too long sequences are cut before their
    end token, which stays. Targets are encoded as targets (Marian and mBART switch by `text_target`)."""
    prepare(tokenizer, settings)
    rows, of_sources, of_targets = tee(rows, 3)  # no further apart than the rows that are tokenized at once
    sources = (settings.prefix + row["source"] for row in of_sources)
    targets = (row["target"] for row in of_targets)
    for row, (source, source_cut), (target, target_cut) in zip(
        rows,
        tokenize_sources(sources, tokenizer, settings.max_source_tokens),
        tokenize_targets(targets, tokenizer, settings.max_target_tokens),
        strict=True,
    ):
        counts.examples += 1
        counts.source_tokens += len(source)
        counts.target_tokens += len(target)
        counts.truncated_source += source_cut
        counts.truncated_target += target_cut
        yield source, target, row
        if counts.examples % CHUNK_ROWS == 0:
            on_progress(counts.examples)
    on_progress(counts.examples)


def embedded(rows: Iterable[TokenRow], tokenizer: Any, embeddings: tuple[int, int] | None) -> Iterator[TokenRow]:
    """The rows as they are. `embeddings`: how many tokens of sources and of targets the model has a row for; None: all.

    Raises `Failure` R228: a text has a token beyond them, such as the mask that a published BART has no row for."""
    for source, target, row in rows:
        for side, ids, number in (("source", source, 0), ("target", target, 1)):
            tokens = bool(ids) and isinstance(ids[0], int)  # the number of a regression is none
            if embeddings is not None and tokens and max(ids) >= embeddings[number]:
                token = tokenizer.convert_ids_to_tokens(max(ids))
                raise Failure(
                    "R228",
                    f"the {side} of the example {row['id']} has the token {token!r}, which is {max(ids):,}, and the "
                    f"model has {embeddings[number]:,} embeddings",
                    "take it out of the text, or the tokenizer that the model was trained with",
                    spec_path="data",
                )
        yield source, target, row


def tokenize_sources(sources: Iterable[str], tokenizer: Any, limit: int) -> Iterator[tuple[list[int], bool]]:
    """(ids, at most `limit`; were there more?) of each source. The tokenizer is prepared."""
    yield from _tokenized(sources, lambda texts: tokenizer(texts), num_end_tokens(tokenizer), limit)


def tokenize_targets(targets: Iterable[str], tokenizer: Any, limit: int) -> Iterator[tuple[list[int], bool]]:
    """(label ids, at most `limit`; were there more?) of each target. The tokenizer is prepared."""
    end = num_end_tokens(tokenizer, target=True)
    yield from _tokenized(targets, lambda texts: tokenizer(text_target=texts), end, limit)


def _tokenized(
    texts: Iterable[str], encode: Callable[[list[str]], Any], end: int, limit: int
) -> Iterator[tuple[list[int], bool]]:
    iterator = iter(texts)
    while chunk := list(islice(iterator, CHUNK_ROWS)):
        for ids in encode(chunk)["input_ids"]:
            yield _cut(ids, limit, end), len(ids) > limit


def prepare(tokenizer: Any, settings: DataSettings | PseudoLabelSettings) -> None:
    """Set the languages of a multilingual tokenizer. `Failure` R211: it does not know one of them, or sources do not
    begin with the token of the one that is to be written."""
    tokenizer.model_max_length = LONGEST
    _check_language_token(tokenizer, settings)
    for name, language in (("src_lang", settings.source_language), ("tgt_lang", settings.target_language)):
        if language is None or not hasattr(tokenizer, name):
            continue
        if language not in tokenizer.get_vocab():
            field = "source_language" if name == "src_lang" else "target_language"
            raise Failure(
                "R211",
                f"the tokenizer has no language code {language!r}",
                "mBART writes them like en_XX, ro_RO",
                spec_path=f"data.{field}",
            )
        setattr(tokenizer, name, language)


def num_end_tokens(tokenizer: Any, *, target: bool = False) -> int:
    """How many tokens the tokenizer puts behind every sequence: an end token, mBART a language too.

    Seen on a text, not by which tokens are special: a text may end in one, and an unknown word is one."""
    text = {"text_target": "a"} if target else {"text": "a"}
    whole, bare = (tokenizer(**text, add_special_tokens=added)["input_ids"] for added in (True, False))
    begins = next(i for i in range(len(whole) + 1) if whole[i : i + len(bare)] == bare)
    return len(whole) - begins - len(bare)


def language_token(tokenizer: Any, language: str | None) -> str:
    """What a source begins with, so that a Marian model of several languages writes this one; empty: it has no token
    for it."""
    token = f">>{language}<<"
    return f"{token} " if token in tokenizer.get_vocab() else ""


def _check_language_token(tokenizer: Any, settings: DataSettings | PseudoLabelSettings) -> None:
    asked = re.match(r">>(.+?)<<", settings.prefix)
    if asked is not None and not language_token(tokenizer, asked[1]):
        problem = f"the tokenizer has no token for the language {asked[1]!r}"
    elif asked is None and settings.target_language and language_token(tokenizer, settings.target_language):
        problem = f"sources do not begin with the token of the language {settings.target_language!r}"
    else:
        return
    raise Failure("R211", problem, "compile the spec again where the files of the model are",
                  spec_path="data.target_language")  # fmt: skip


def _cut(ids: list[int], limit: int, end: int) -> list[int]:
    """At most `limit` ids. The last `end`, which the tokenizer puts behind every sequence, stay."""
    if len(ids) <= limit:
        return ids
    return ids[: max(0, limit - end)] + ids[len(ids) - end :]
