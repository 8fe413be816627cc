"""How often a row is there: the share that a target has in a mix.

A share of 1 is every row once. The whole part of another one is every row so often; of what is left a share of
the rows is drawn: those whose name and id have the smallest hashes. So a draw is the same for every seed and every
run, has exactly the asked number of rows, and the rows of a smaller share are among those of a larger one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def draw(name: str, ids: Sequence[str], share: float) -> NDArray[np.int64]:
    """Positions in `ids`, each round in their order: int(share) rounds of all, then the drawn ones."""
    whole = int(share)
    number = round(len(ids) * (share - whole))
    rounds = [np.arange(len(ids))] * whole
    if number:
        hashes = [hashlib.sha256(f"{name}\n{id}".encode()).digest() for id in ids]
        chosen = sorted(sorted(range(len(ids)), key=hashes.__getitem__)[:number])
        rounds.append(np.asarray(chosen))
    return np.concatenate([*rounds, np.zeros(0)]).astype(np.int64)
