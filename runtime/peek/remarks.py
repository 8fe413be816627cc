"""What a person should notice in a batch, in words. Each remark is a suspicion, not a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .token_text import TokenText

MUCH_PADDING = 50.0  # percent of a padded side
MUCH_UNKNOWN = 5.0  # percent of a text's tokens


def row_remarks(
    row: Mapping[str, Any], source: Sequence[int], labels: Sequence[int], start: int, words: TokenText
) -> list[str]:
    """Of one row. `source` and `labels`: its real token ids; `start`: the token that the decoder begins with."""
    found = []
    if not source or all(id in words.special for id in source):
        found.append("the source has no token but special ones: an all-padding row")
    if not labels or all(id in words.special for id in labels):
        found.append("the target has no token but special ones: there is nothing to learn from it")
    elif labels[0] == start:
        found.append(
            f"the first label is {words.token(start)}, which is also what the decoder starts with: it is given the "
            "token that it has to predict"
        )
    if labels and labels[-1] not in words.special:
        found.append("the last label is no end token: the model is not taught where to stop")
    if words.pad in labels and words.pad != start:
        found.append("a padding token counts as a label")
    if row["source_text"].strip() == row["target_text"].strip():
        found.append("the target equals the source")
    for side, ids in (("source", source), ("target", labels)):
        unknown = sum(id == words.unknown for id in ids)
        if ids and 100.0 * unknown / len(ids) > MUCH_UNKNOWN:
            found.append(f"{unknown} of {len(ids)} {side} tokens are unknown to the tokenizer")
    return found


def batch_remarks(facts: Mapping[str, Any]) -> list[str]:
    """Of the batch and of the data."""
    found = []
    data, rows = facts["data"], facts["rows"]
    for side in ("source", "target"):
        limit = f"max_{side}_tokens {data[f'max_{side}_tokens']}"
        whole = data["truncated"]
        if whole is not None and whole[side] == 100.0:
            found.append(f"every {side} of the training data is cut to {limit}")
        elif data["truncated_in_batch"][side] == 100.0:
            found.append(f"every {side} of this micro-batch is cut to {limit}")
        if facts["batch"]["padding"][side] > MUCH_PADDING:
            found.append(f"{facts['batch']['padding'][side]:.0f} % of the padded {side}s are padding")
    same: dict[str, list[int]] = {}
    for row in rows:
        for remark in row["remarks"]:
            same.setdefault(remark, []).append(row["row"])
    found += [f"row{'s' if len(of) > 1 else ''} {', '.join(map(str, of))}: {remark}" for remark, of in same.items()]
    if facts["layers"] and facts["objective"] and all(term["value"] == 0.0 for term in facts["objective"]):
        found.append("every term is 0 on the rows shown: there is nothing to learn from them")
    return found
