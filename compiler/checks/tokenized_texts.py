"""`check --data`: what the tokenizer of a teacher that is here makes of the first rows. Words that it does not know,
and targets that it puts no end behind. A tokenizer that is no tokenizer.json is left to the run's data stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os.path import isfile
from pathlib import Path
from typing import Any

from ..diagnostics.diagnostic import Reporter
from ..diagnostics.record import record
from ..diagnostics.regular_file import json_mapping, open_regular
from ..spec.experiment import Experiment

SAMPLED_ROWS = 1000  # of a split
MUCH_UNKNOWN = 1.0  # percent of the tokens of a side
# Classes that do what tokenizer.json says. Others put ends of their own behind a text.
_GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")

Pair = tuple[str, str]  # source, target


@record
class FileTokenizer:
    """The tokenizer of a model's folder. `unknown`: the id of what it does not know, None: it knows everything; `ends`:
    the ids that a target may end with, empty: that is not known here."""

    tokenizer: Any
    unknown: int | None
    ends: frozenset[int]

    def ids(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of each text. Raises `Exception`: it cannot be applied to them."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]


def tokenizer_of(folder: Path) -> FileTokenizer | None:
    """None: there is no tokenizer.json that can be read."""
    if not isfile(folder / "tokenizer.json"):
        return None
    from tokenizers import Tokenizer

    try:
        with open_regular(folder / "tokenizer.json") as file:
            tokenizer = Tokenizer.from_buffer(file.read())
    except Exception:  # the library raises `Exception` itself
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    said = json_mapping(folder / "tokenizer_config.json")
    special = {**json_mapping(folder / "special_tokens_map.json"), **said}
    unknown = _content(special.get("unk_token")) or str(getattr(tokenizer.model, "unk_token", None) or "<unk>")
    ends: set[int] = set()
    if said.get("tokenizer_class") in _GENERIC and not said.get("add_eos_token"):
        named = json_mapping(folder / "generation_config.json").get("eos_token_id")
        named = json_mapping(folder / "config.json").get("eos_token_id") if named is None else named
        own = tokenizer.token_to_id(_content(special.get("eos_token")))
        ends = {id for id in (*(named if isinstance(named, list) else [named]), own) if type(id) is int}
    return FileTokenizer(tokenizer, tokenizer.token_to_id(unknown), frozenset(ends))


def tell_tokens(run: Experiment, folder: Path, samples: Mapping[str, Sequence[Pair]], reporter: Reporter) -> None:
    """`folder`: the teacher's; `samples`: split -> its first rows. Reports W427 (unknown tokens), W428 (targets without
    an end token)."""
    found = tokenizer_of(folder)
    if found is None:
        return
    unknown, endless = [], []
    for split, pairs in samples.items():
        try:
            sources = found.ids(run.data.prefix + source for source, _ in pairs)
            targets = found.ids(target for _, target in pairs)
        except Exception:  # the library's: it has no token for what it does not know
            return
        shares = {"source": _unknown(found, sources, run.data.max_source_tokens),
                  "target": _unknown(found, targets, run.data.max_target_tokens)}  # fmt: skip
        told = [f"{share:.0f} % of the {side} tokens" for side, share in shares.items() if share > MUCH_UNKNOWN]
        unknown += [f"{' and '.join(told)} of {split}"] if told else []
        # A code of a language may stand behind the end.
        without = sum(not found.ends & {*ids[-2:]} for ids in targets)
        endless += [f"{without:,} of {len(targets):,} of {split}"] if found.ends and without else []
    if unknown:
        reporter.warning(
            "W427",
            ("teacher",),
            f"unknown to the teacher's tokenizer: {'; '.join(unknown)}",
            "the model sees the unknown token instead: is it the tokenizer of this language, and are the texts clean?",
            because=[("data",)],
        )
    if endless:
        reporter.warning(
            "W428",
            ("teacher",),
            f"the teacher's tokenizer appends no end token to targets: {'; '.join(endless)}",
            "a model that is trained on them does not learn to stop: the post-processor of its tokenizer.json should "
            "append one to each text",
            because=[("data",)],
        )


def _unknown(found: FileTokenizer, rows: Sequence[Sequence[int]], limit: int) -> float:
    """Percent of the tokens that a model is given."""
    ids = [id for row in rows for id in row[:limit]]
    return 100 * ids.count(found.unknown) / len(ids) if ids and found.unknown is not None else 0.0


def _content(token: Any) -> str:
    """A special token, as a text or as a mapping with its `content`; "": there is none."""
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) else ""
