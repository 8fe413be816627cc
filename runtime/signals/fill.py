"""A teacher's states of every row, or its candidates, written into mapped files: in shards, by all ranks, resumable.

The values of a row do not depend on the batch that it was computed in but for rounding; which rows make a batch
depends on lengths and the token budget alone, never on ranks. A finished shard is on the disk before its mark
is, so what was killed goes on with the next shard.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.batches import sorted_batches
from ..data.rows import Lengths, Rows
from ..execution.context import Context
from ..extensions import TASKS
from ..failure import Failure, interrupted
from ..models.families import IGNORED, family_of, layers, stacks
from ..models.forward import capture_activations, run_stack, with_inputs
from ..models.head import Head
from ..plan.settings import SignalsSettings
from .candidates import FILES, IDS, LOG_PROBABILITIES, candidates_of, distribution, probabilities_of
from .layout import LAST, OFFSETS, STORED, Facts, create, file_names, layer_name, open_array, to_stored, write_facts
from .read import Signals, lengths_of, signal

SHARD_TOKENS = 1 << 16  # of one side: what an interruption costs at most on every rank
ALONE_ROWS = 3  # computed once more, each by itself, and compared with what was stored
# Of the largest state: what another order of summation may change.
ALONE_TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}

Ids = NDArray[np.int64]
States = dict[str, Tensor]  # state -> (B, S or T, d)


class Filling:
    """One side of a teacher on its way to the disk. `model`: the teacher in eval mode, in the precision of the
    signals; `encoder`: the digest of its encoder; `encoder_signals`: the other side, if its last states are kept:
    the decoder then needs no encoder."""

    def __init__(
        self,
        model: Any,
        rows: Rows,
        settings: SignalsSettings,
        context: Context,
        *,
        pad_id: int,
        encoder: str,
        encoder_signals: Signals | None,
    ) -> None:
        self.model, self.rows, self.settings, self.context = model, rows, settings, context
        self.pad_id, self.encoder = pad_id, encoder
        self.encoder_signals = encoder_signals
        depth = len(layers(model, settings.side))
        final_norm = family_of(model).final_norm is not None
        self.files = file_names(settings.last, settings.layers, last_layer=depth - 1, final_norm=final_norm)
        if settings.candidates is not None:
            self.files |= FILES
        self.lengths: Lengths = lengths_of(rows, settings.side)
        self.offsets: Lengths = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)  # (N + 1,)

    def run(self) -> int:
        """Write what is not there yet. Returns the bytes of the artifact's arrays. Raises `Failure` (interrupted)
        at a stop request, R333: a row alone gives other states than in its batch."""
        context, batches = self.context, self._batches()
        shards = list(_shards(batches, self.lengths))
        done = self._prepare(len(shards))
        arrays = {name: open_array(context.folder / name, "r+") for name in set(self.files.values())}
        left = [number for number in range(len(shards)) if number not in done]
        title = "candidates" if self.settings.candidates is not None else f"{self.settings.side} states"
        with context.progress.task(title, len(self.rows), "examples") as update:
            ready = sum(len(batch) for number in done for batch in shards[number])
            for first in range(0, len(left), context.world):
                update(ready)
                mine = left[first + context.rank : first + context.rank + 1]
                for number in mine:
                    self._shard(shards[number], arrays)
                    self._mark(number)
                ready += sum(len(batch) for number in left[first : first + context.world] for batch in shards[number])
                if context.stop_requested():
                    raise interrupted(context.stage.id)
            update(ready)
        context.barrier()
        if context.is_rank_zero:
            self._finish()
        return sum((context.folder / name).stat().st_size for name in {*self.files.values(), OFFSETS})

    @property
    def token_bytes(self) -> int:
        """Of one token, all files together."""
        numbers = {name: self._numbers(state) for state, name in self.files.items()}
        return sum(width * kind.itemsize for width, kind in numbers.values())

    def _numbers(self, state: str) -> tuple[int, np.dtype[Any]]:
        """How many numbers a token has in the file of a state, and what they are."""
        candidates = self.settings.candidates
        if candidates is None or state not in FILES:
            return int(self.model.config.hidden_size), STORED[self.settings.precision]
        if state == IDS:
            return candidates.number, np.dtype("<i4")
        return candidates.number + (candidates.kind == "top-k"), np.dtype("<f4")

    def _batches(self) -> list[Ids]:
        lengths = self.rows.source_lengths
        if self.settings.side == "decoder":
            lengths = lengths + self.rows.target_lengths
        return sorted_batches(lengths, self.context.stage.execution.micro_batch_tokens, even=True)

    def _prepare(self, num_shards: int) -> set[int]:
        """The files, made when they are not there; the shards that are done."""
        context, marks = self.context, self.context.scratch / "shards"
        # Other shards than these are done when the token budget was another.
        made_for = json.dumps([num_shards, context.stage.execution.micro_batch_tokens], allow_nan=False)
        record = context.scratch / "made_for.json"
        if context.is_rank_zero and not (record.is_file() and record.read_text("utf-8") == made_for):
            for mark in marks.glob("*"):
                mark.unlink()
            for state, name in self.files.items():
                create(context.folder / name, int(self.offsets[-1]), *self._numbers(state))
            np.save(context.folder / OFFSETS, self.offsets)
            marks.mkdir(parents=True, exist_ok=True)
            record.write_text(made_for, "utf-8")
        context.barrier()
        found = {int(mark.name) for mark in marks.iterdir()} if context.is_rank_zero else set()
        done: set[int] = context.gather(found)[0]
        return done

    def _shard(self, batches: Sequence[Ids], arrays: dict[str, Any]) -> None:
        for ids in batches:
            states = self.states(ids)
            for state, name in self.files.items():
                if state != LAST and name == self.files.get(LAST):
                    continue  # the same states
                stored = to_stored(states[state])  # (B, S or T, d)
                for b, i in enumerate(ids):
                    arrays[name][self.offsets[i] : self.offsets[i + 1]] = stored[b, : self.lengths[i]]
        for array in arrays.values():
            array.flush()

    def _mark(self, number: int) -> None:
        (self.context.scratch / "shards" / str(number)).touch()

    @torch.inference_mode()
    def states(self, ids: Ids) -> States:
        """What is kept of these rows, padded."""
        states, batch = self._states(ids)
        candidates = self.settings.candidates
        if candidates is None:
            return states
        valid = batch["labels"] != IGNORED  # (B, T)
        return states | candidates_of(states[LAST], valid, Head(self.model), candidates, ids.tolist())

    def _states(self, ids: Ids) -> tuple[States, dict[str, Tensor]]:
        """The states of these rows, the last ones included, and the batch that they are of."""
        settings, model = self.settings, self.model
        collated = TASKS[self.context.plan.task].collate(self.rows, ids, self.pad_id)
        batch = {name: tensor.to(self.context.device) for name, tensor in collated.items()}
        inputs = with_inputs(model, batch)
        wanted = tuple(settings.layers)
        below: Tensor | None = None
        for stack in stacks(model):
            if stack == settings.side:
                with capture_activations(model, stack, outputs=wanted) as captured:
                    last = run_stack(model, stack, inputs, below)
                return {LAST: last, **{layer_name(layer): captured.outputs[layer] for layer in wanted}}, batch
            if self.encoder_signals is not None:
                kept = self.encoder_signals.batch(ids, batch["input_ids"].shape[1], batch["labels"].shape[1])
                below = kept[signal(stack)].to(self.context.device)
            else:
                below = run_stack(model, stack, inputs, below)
        raise AssertionError(f"the model has no {settings.side}")

    def _finish(self) -> None:
        settings = self.settings
        facts = Facts(
            side=settings.side,
            precision=settings.precision,
            width=int(self.model.config.hidden_size),
            files=self.files,
            encoder=self.encoder,
            candidates=settings.candidates,
        )
        write_facts(self.context.folder, facts)
        kept = Signals({settings.side: self.context.folder}, self.rows)
        for i in np.unique(np.linspace(0, len(self.rows) - 1, ALONE_ROWS).astype(np.int64)):
            found = kept.batch(np.array([i]), int(self.rows.source_lengths[i]), int(self.rows.target_lengths[i]))
            stored = {state: found[signal(settings.side, state)] for state in self.files}
            alone = self._alone(np.array([i]), stored)
            for state, expected in alone.items():
                self._compare(expected.cpu().float(), stored[state].float(), state, int(i))

    @torch.inference_mode()
    def _alone(self, ids: Ids, stored: States) -> States:
        """What is kept of one row, computed by itself. Of candidates that is what it gives to the stored ones: of two
        that are almost equally probable, either may be the last, and a draw may fall on either."""
        candidates = self.settings.candidates
        if candidates is None:
            return {state: found for state, found in self.states(ids).items() if state in stored}
        states, _ = self._states(ids)
        log_p = distribution(Head(self.model)(states[LAST]), candidates)  # (1, T, vocabulary)
        return {LOG_PROBABILITIES: probabilities_of(log_p, stored[IDS].to(log_p.device), candidates)}

    def _compare(self, alone: Tensor, kept: Tensor, state: str, row: int) -> None:
        """alone, kept (1, S or T, d)."""
        largest = float(alone.abs().max())
        worst = float((alone - kept).abs().max()) / max(largest, 1e-9)
        if not worst <= ALONE_TOLERANCE[self.settings.precision]:
            what = f"{self.settings.side} states ({state})"
            instead = "switch the cache off: `scratch: {limit_gb: 0}` in the site file"
            if self.settings.candidates is not None:
                what, instead = f"candidates ({state})", "write `loss.logits.candidates: all`"
            raise Failure(
                "R333",
                f"the {what} of the example {self.rows.raw(row)['id']} are others alone than in a batch, by "
                f"{worst:.2g} of the largest: they cannot be kept",
                f"{instead}; then report it",
            )


def _shards(batches: Sequence[Ids], lengths: Lengths) -> Iterator[list[Ids]]:
    """Consecutive batches of about `SHARD_TOKENS` tokens together."""
    tokens = accumulate(int(lengths[batch].sum()) for batch in batches)
    shard: list[Ids] = []
    limit = SHARD_TOKENS
    for batch, total in zip(batches, tokens, strict=True):
        shard.append(batch)
        if total >= limit:
            yield shard
            shard, limit = [], total + SHARD_TOKENS
    if shard:
        yield shard
