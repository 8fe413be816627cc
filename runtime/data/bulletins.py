"""The built-in corpus `bulletins`: news reports in a small closed vocabulary, and one-sentence summaries.

A report opens with words from the studio; the facts of one event follow in any order, each in one of several
wordings, between sentences about other people, places and numbers. The target states who, what, where, how
much and when in a style of its own, so that copying the lead earns little: the facts have to be found and
told apart from what merely looks like them. Row i of a split depends on nothing but the version, the split
and i, and no text is in two splits (see `_split_of`). The wordings are in `bulletins.toml`.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

VERSION = "1"
SPLITS = {"train": 20_000, "validation": 1_000, "test": 1_000}


def bulletins(split: str, limit: int | None = None) -> Iterator[dict[str, str]]:
    """The rows of a split, {"id", "source", "target"}, the first `limit` (None: the usual size of the split;
    more than that is made as well). KeyError: no such split."""
    num_rows = SPLITS[split] if limit is None else limit
    for index in range(num_rows):
        yield bulletin(split, index)


def bulletin(split: str, index: int) -> dict[str, str]:
    """Row `index` of a split."""
    words = wordings()
    rng = random.Random(f"bulletins {VERSION} {split} {index}")
    event = rng.choice(words["events"])
    facts = _facts(event, words["pools"], split, rng)
    others = _other_facts(facts, words["pools"], rng)

    told = [rng.choice(fact).format(**facts) for fact in event["sentences"]]
    told += [text.format(**others) for text in rng.sample(words["asides"], rng.randint(1, 2))]
    if rng.random() < 0.5:
        told.append(rng.choice(event["asides"]).format(**others))
    rng.shuffle(told)
    topical = rng.random() < 0.7
    lead = rng.choice(event["leads"]).format(**facts) if topical else rng.choice(words["leads"]).format(**others)
    close = [rng.choice(words["closes"]).format(**others)] if rng.random() < 0.5 else []
    return {
        "id": f"bulletins-{split}-{index}",
        "source": " ".join([lead, *told, *close]),
        "target": event["target"].format(**facts),
    }


@cache
def wordings() -> dict[str, Any]:
    """`bulletins.toml`, each pool as a list of words."""
    words = tomllib.loads(Path(__file__).with_name("bulletins.toml").read_text("utf-8"))
    return {**words, "pools": {name: pool.split() for name, pool in words["pools"].items()}}


def _facts(event: Mapping[str, Any], pools: Mapping[str, list[str]], split: str, rng: random.Random) -> dict[str, str]:
    """One value for each slot of the event, whose first two names belong to the split."""
    slots = event["slots"]
    while True:
        facts = {slot: rng.choice(pools[pool]) for slot, pool in slots.items()}
        if len(set(facts.values())) < len(facts):
            continue
        first, second = (pools[pool].index(facts[slot]) for slot, pool in list(slots.items())[:2])
        if _split_of(first, second) == split:
            return facts


def _split_of(first: int, second: int) -> str:
    """Which split a pair of names belongs to, by their positions in their pools: 8 in 10 pairs to train. Both stand in
    every report of the event, so the same text cannot be made for two splits."""
    return {8: "validation", 9: "test"}.get((3 * first + second) % 10, "train")


def _other_facts(facts: Mapping[str, str], pools: Mapping[str, list[str]], rng: random.Random) -> dict[str, str]:
    """A word of each pool for the sentences that are not about the event; none is a fact of it."""
    taken = set(facts.values())
    return {name: rng.choice([word for word in pool if word not in taken]) for name, pool in pools.items()}
