"""The built-in corpus `bulletins`: news reports in a small closed vocabulary, and one-sentence summaries.

A report opens with words from the studio; the facts of one event follow in any order, each in one of several
wordings, between sentences about other people, places and numbers. The target states who, what, where, how
much and when in a style of its own, so that copying the lead earns little: the facts have to be found and
told apart from what merely looks like them. Row i of a split depends on nothing but the version, the split
and i, and no text is in two splits (see `_split_of`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from . import bulletin_words as words
from .bulletin_events import EVENTS, Event

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
    rng = random.Random(f"bulletins {VERSION} {split} {index}")
    event = rng.choice(EVENTS)
    facts = _facts(event, split, rng)
    others = _other_facts(facts, rng)

    told = [rng.choice(wordings).format(**facts) for wordings in event.sentences]
    told += [text.format(**others) for text in rng.sample(words.ASIDES, rng.randint(1, 2))]
    if rng.random() < 0.5:
        told.append(rng.choice(event.asides).format(**others))
    rng.shuffle(told)
    topical = rng.random() < 0.7
    lead = rng.choice(event.leads).format(**facts) if topical else rng.choice(words.LEADS).format(**others)
    close = [rng.choice(words.CLOSES).format(**others)] if rng.random() < 0.5 else []
    return {
        "id": f"bulletins-{split}-{index}",
        "source": " ".join([lead, *told, *close]),
        "target": event.target.format(**facts),
    }


def _facts(event: Event, split: str, rng: random.Random) -> dict[str, Any]:
    """One filling of the event's slots whose first two names belong to the split."""
    while True:
        facts = {slot: rng.choice(words.POOLS[pool]) for slot, pool in event.slots.items()}
        if len(set(facts.values())) == len(facts) and _split_of(event, facts) == split:
            return facts


def _split_of(event: Event, facts: dict[str, Any]) -> str:
    """Which split a pair of names belongs to: 8 in 10 pairs to train. Both stand in every report of the
    event, so the same text cannot be made for two splits."""
    first, second = (words.POOLS[pool].index(facts[slot]) for slot, pool in list(event.slots.items())[:2])
    return {8: "validation", 9: "test"}.get((3 * first + second) % 10, "train")


def _other_facts(facts: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Fillings for the sentences that are not about the event; none is a fact of it."""
    taken = set(facts.values())
    return {
        pool: rng.choice([word for word in pool_words if word not in taken]) for pool, pool_words in words.POOLS.items()
    }
