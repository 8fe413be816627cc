"""Which examples make a step, and how a step is cut into micro-batches. Pure arithmetic on lengths.

The order is fixed for the whole run before anything is sharded: it depends on the seed, the epoch and the
lengths, never on the number of devices. Rows of a step are alike in length on both sides, so that little
of a padded batch is padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from .rows import Rows

Ids = NDArray[np.int64]
Lengths = NDArray[np.int64]

STEPS_PER_WINDOW = 64
_STRIPS = (1, 2, 4, 8, 16, 32, 64)


def epoch_steps(
    source_lengths: Lengths,
    target_lengths: Lengths,
    unit: Literal["examples", "tokens"],
    size: int,
    seed: int,
    epoch: int,
) -> list[Ids]:
    """The example ids of each optimizer step of one epoch (0-based); every example is in exactly one.

    A random permutation is cut into windows of 64 steps; inside a window the rows are ordered by length
    and cut into steps of `size` examples, or of `size` real source + target tokens to within a row. The last
    window is shared out evenly, so no step is a tiny remainder. Then the steps are shuffled. Epoch 0 opens
    with the step that holds the longest row: what does not fit fails at once.
    """
    random = np.random.Generator(np.random.PCG64([seed, epoch]))
    order: Ids = random.permutation(len(source_lengths))
    weights = np.ones(len(order), np.int64) if unit == "examples" else source_lengths + target_lengths
    steps: list[Ids] = []
    for window in _cut(order, weights[order], STEPS_PER_WINDOW * size):
        total = int(weights[window].sum())
        # A window of tokens may hold a few more than its share: that is no reason for a step more.
        num_steps = max(1, math.ceil(total / size - (0.0 if unit == "examples" else 0.05)))
        window = window[_arrange(source_lengths[window], target_lengths[window], num_steps)]
        steps += _share(window, weights[window], num_steps)
    steps = [steps[i] for i in random.permutation(len(steps))]
    if epoch == 0 and steps:
        longest = max(range(len(steps)), key=lambda i: int((source_lengths + target_lengths)[steps[i]].max()))
        steps[0], steps[longest] = steps[longest], steps[0]
    return steps


def micro_batches(
    example_ids: Ids, source_lengths: Lengths, target_lengths: Lengths, world: int, micro_batch_tokens: int
) -> list[list[Ids]]:
    """Cut one step for `world` devices: [micro step][rank] -> example ids, as few micro steps as fit.

    Padded (rows * longest source + rows * longest target) is at most `micro_batch_tokens`, unless a single
    row is longer. Every rank has the same number of micro steps, and the ranks of a micro step have about
    the same to do; with fewer rows than ranks some arrays are empty.
    """
    ids = np.asarray(example_ids, dtype=np.int64)
    source, target = source_lengths[ids], target_lengths[ids]
    padded = int((source.max() + target.max()) * len(ids))
    arranged = _arrange(source, target, max(world, math.ceil(padded / micro_batch_tokens)))
    ids, source, target = ids[arranged], source[arranged], target[arranged]
    pairs = list(zip(source.tolist(), target.tolist(), strict=True))

    longest_row = max(s + t for s, t in pairs)
    limit = max(micro_batch_tokens, longest_row)
    num_parts = math.ceil((len(_fill(pairs, limit)) - 1) / world) * world
    # The smallest limit that still gives no more parts: the parts come out balanced.
    low, high = longest_row, limit
    while low < high:
        middle = (low + high) // 2
        if len(_fill(pairs, middle)) - 1 <= num_parts:
            high = middle
        else:
            low = middle + 1
    bounds = _fill(pairs, high)
    parts = [ids[start:stop] for start, stop in pairwise(bounds)]
    while len(parts) < num_parts and max(map(len, parts)) > 1:
        largest = max(range(len(parts)), key=lambda i: len(parts[i]))
        part = parts[largest]
        parts[largest : largest + 1] = [part[: len(part) // 2], part[len(part) // 2 :]]

    def cost(part: Ids) -> int:
        return int((source_lengths[part].max() + target_lengths[part].max()) * len(part))

    parts.sort(key=cost, reverse=True)
    parts += [ids[:0]] * (num_parts - len(parts))
    return [parts[i : i + world] for i in range(0, num_parts, world)]


def sorted_batches(
    lengths: Lengths, batch_tokens: int | None, max_rows: int | None = None, *, even: bool = False
) -> list[Ids]:
    """Row numbers in batches for evaluation and generation, the longest first. rows * longest row is at
    most `batch_tokens` (None: no limit), unless a single row is longer; at most `max_rows` rows.

    `even`: rows that are an eighth shorter than the longest begin a new batch, once a quarter of `batch_tokens` is
    there. It is for a single forward pass, whose cost is the padded tokens: few rows of many lengths are then not
    padded to the longest of them."""
    order = np.argsort(-lengths, kind="stable")
    batches = []
    start = 0
    while start < len(order):
        rows = len(order) - start
        if batch_tokens is not None:
            longest = max(1, int(lengths[order[start]]))
            rows = min(rows, max(1, batch_tokens // longest))
            if even:
                alike = int((8 * lengths[order[start : start + rows]] > 7 * longest).sum())
                rows = min(rows, max(alike, -(-batch_tokens // (4 * longest))))
        if max_rows is not None:
            rows = min(rows, max_rows)
        batches.append(order[start : start + rows])
        start += rows
    return batches


def collate(rows: Rows, ids: Sequence[int] | Ids, pad_id: int) -> dict[str, torch.Tensor]:
    """Padded tensors of these examples: `input_ids` and `attention_mask` (B, S), `labels` (B, T), all int64;
    labels are padded with -100 (the label that transformers and torch ignore). Targets that are numbers stay float32.

    No ids gives one row with no token to attend to and no label to learn, which counts in no term: a rank without
    examples must run the same collective operations as the others.
    """
    sources = [rows.source(int(i)) for i in ids]
    targets = [rows.target(int(i)) for i in ids]
    if not sources:
        one = torch.ones((1, 1), dtype=torch.int64)
        return {"input_ids": one * pad_id, "attention_mask": one * 0, "labels": one * -100}
    longest_source = max(map(len, sources))
    input_ids = np.full((len(sources), longest_source), pad_id, np.int64)
    attention_mask = np.zeros((len(sources), longest_source), np.int64)
    numbers = np.asarray(targets[0]).dtype == np.float32
    labels = np.full((len(targets), max(map(len, targets))), -100, np.float32 if numbers else np.int64)
    for b, (source, target) in enumerate(zip(sources, targets, strict=True)):
        input_ids[b, : len(source)] = source
        attention_mask[b, : len(source)] = 1
        labels[b, : len(target)] = target
    return {
        "input_ids": torch.from_numpy(input_ids),
        "attention_mask": torch.from_numpy(attention_mask),
        "labels": torch.from_numpy(labels),
    }


def _arrange(source: Lengths, target: Lengths, num_groups: int) -> Ids:
    """An order of the rows such that `num_groups` consecutive groups need little padding on both sides.

    Strips of similar source length, each ordered by target length, up and down in turn so that neighbouring
    strips meet at similar rows. How many strips is best depends on how the two lengths vary; of a few
    numbers the one with the least padding is taken.
    """
    num_rows = len(source)
    by_source = np.lexsort((target, source))
    starts = np.linspace(0, num_rows, num_groups + 1).astype(np.int64)[:-1]
    starts = np.unique(starts)
    group_rows = np.diff(np.append(starts, num_rows))
    best, best_cost = by_source, None
    for strips in _STRIPS:
        if strips > max(1, num_groups):
            break
        strip = np.empty(num_rows, np.int64)
        strip[by_source] = np.arange(num_rows) * strips // max(1, num_rows)
        order = np.lexsort((source, np.where(strip % 2, -target, target), strip))
        widths = np.maximum.reduceat(source[order], starts) + np.maximum.reduceat(target[order], starts)
        cost = int((widths * group_rows).sum())
        if best_cost is None or cost < best_cost:
            best, best_cost = order, cost
    return best


def _cut(order: Ids, weights: Lengths, size: int) -> list[Ids]:
    """Consecutive pieces of about `size` each (by weight), the last one smaller."""
    piece = (np.cumsum(weights) - weights) // size
    return np.split(order, np.flatnonzero(np.diff(piece)) + 1) if len(order) else []


def _share(order: Ids, weights: Lengths, parts: int) -> list[Ids]:
    """Consecutive pieces of about the same weight, `parts` of them less those that would be empty."""
    total = int(weights.sum())
    middle = 2 * np.cumsum(weights) - weights
    piece = np.minimum(middle * parts // (2 * total), parts - 1)
    return np.split(order, np.flatnonzero(np.diff(piece)) + 1)


def _fill(pairs: Sequence[tuple[int, int]], limit: int) -> list[int]:
    """Bounds of consecutive parts, each as long as its padded size stays within `limit`."""
    bounds = [0]
    longest_source = longest_target = rows = 0
    for i, (source, target) in enumerate(pairs):
        longest_source, longest_target = max(longest_source, source), max(longest_target, target)
        rows += 1
        if rows > 1 and (longest_source + longest_target) * rows > limit:
            bounds.append(i)
            longest_source, longest_target, rows = source, target, 1
    bounds.append(len(pairs))
    return bounds
