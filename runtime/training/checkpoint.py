"""Checkpoints of a training under way: saved at step boundaries, resumed bit for bit.

    <scratch>/checkpoints/<tag>/     what DeepSpeed wrote
    <scratch>/checkpoint.json        which tag is complete (replaced by rename), what its files are, and under what
                                     it was made

Resuming is exact on the same number of ranks and threads. On others the result would differ, so it is
refused with the difference named.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..execution.context import Context
from ..failure import Failure
from ..files.integrity import Hashes, changed_file, sha256, sync, write_durably

MARKER = "checkpoint.json"


class Checkpoints:
    """The checkpoints of one training stage."""

    def __init__(self, context: Context, engine: Any) -> None:
        self._context = context
        self._engine = engine
        self._folder = context.scratch / "checkpoints"
        self._marker = context.scratch / MARKER

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Save after `step` (all ranks). `state` is JSON: what the loop needs besides the engine's tensors."""
        tag = f"step-{step}"
        self._engine.save_checkpoint(str(self._folder), tag, {"step": step}, exclude_frozen_parameters=True)
        self._context.barrier()
        files = self._written(self._folder / tag)
        if self._context.is_rank_zero:
            self._context.journal.sync()
            record = {"tag": tag, "step": step, "state": state, "conditions": self._conditions(), "files": files}
            write_durably(self._marker, json.dumps(record, allow_nan=False))
            (self._context.scratch / "seconds.json").write_text(json.dumps(state["seconds"], allow_nan=False), "utf-8")
            for earlier in self._folder.glob("step-*"):  # also those of which a kill left a part
                if earlier.name != tag:
                    shutil.rmtree(earlier, ignore_errors=True)

    def resume(self) -> tuple[int, dict[str, Any]] | None:
        """Load the last complete checkpoint: (step, state); None: there is none.

        Raises `Failure` R304: it is damaged, or was made other conditions, under which the result would differ."""
        record = self._record()
        if record is None:
            return None
        self._require_conditions(record)
        self._require_written(record)
        try:
            with only_tensors():
                path, _ = self._engine.load_checkpoint(str(self._folder), record["tag"], load_module_strict=False)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise self._damaged(f"{self._folder / record['tag']} cannot be loaded ({_first_line(error)})") from error
        if path is None:
            raise self._damaged(f"{self._folder / record['tag']} cannot be loaded")
        return int(record["step"]), record["state"]

    def last_step(self) -> int:
        """The step of the last complete checkpoint, on every rank: rank 0 writes its record, and alone reads it."""
        record = self._record()
        assert record is not None  # a training ends with a checkpoint
        return int(record["step"])

    def _record(self) -> dict[str, Any] | None:
        """What rank 0 reads, on every rank."""
        found: dict[str, Any] | Failure | None = None
        if self._context.is_rank_zero:
            try:
                found = self._read()
            except Failure as failure:
                found = failure
        found = self._context.gather(found)[0]
        if isinstance(found, Failure):
            raise found
        return found

    def _read(self) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads(self._marker.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._damaged(f"{self._marker} cannot be read") from error
        kinds = {"tag": str, "step": int, "state": dict, "conditions": dict, "files": dict}
        if not isinstance(record, dict) or not all(isinstance(record.get(name), kinds[name]) for name in kinds):
            raise self._damaged(f"{self._marker} is not a record of a checkpoint")
        return record

    def _damaged(self, how: str) -> Failure:
        id = self._context.stage.id
        return Failure(
            "R304",
            f"the checkpoint of the interrupted stage {id} is damaged: {how}",
            f"start the stage over: --redo {id}",
        )

    def _written(self, folder: Path) -> dict[str, Any]:
        """The files of a checkpoint, brought to the disk: name -> {sha256, bytes}. Every rank reads its share."""
        names = sorted(file.name for file in folder.iterdir())
        mine = {}
        for name in names[self._context.rank :: self._context.world]:
            sync(folder / name)
            mine[name] = {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size}
        sync(folder)
        return {name: entry for part in self._context.gather(mine) for name, entry in part.items()}

    def _require_written(self, record: dict[str, Any]) -> None:
        """Raises `Failure` R304: a file is not what was written. Every rank reads its share."""
        folder, files = self._folder / record["tag"], record["files"]
        names = sorted(files)[self._context.rank :: self._context.world]
        changed = changed_file(folder, {name: files[name] for name in names}, Hashes())
        for found in self._context.gather(changed):
            if found is not None:
                raise self._damaged(f"{folder / found[0]} {found[1]}")

    def _conditions(self) -> dict[str, Any]:
        execution = self._context.stage.execution
        partitions = (execution.deepspeed or {}).get("zero_optimization", {})
        offload = "parameters" if "offload_param" in partitions else "optimizer"
        return {
            "processes": self._context.world,
            "threads per process": torch.get_num_threads(),
            "ZeRO stage": partitions.get("stage", 0),
            "offload": offload if "offload_optimizer" in partitions else "none",
            "teacher": "whole" if execution.teacher_deepspeed is None else "sharded",
            "checkpointing": "on" if execution.checkpointing else "off",
            "micro_batch_tokens": execution.micro_batch_tokens,
            "device": self._context.device.partition(":")[0],
            "kept states": " and ".join(sorted(execution.signals)) or "none",
        }

    def _require_conditions(self, record: dict[str, Any]) -> None:
        now = self._conditions()
        differences = [
            f"{name}: {then} then, {now[name]} now"
            for name, then in record["conditions"].items()
            if then != now.get(name)
        ]
        if differences:
            raise Failure(
                "R304",
                f"stage {self._context.stage.id} was interrupted after step {record['step']} under other conditions "
                f"({'; '.join(differences)}); going on would give another result",
                f"run it under the same conditions, or start the stage over: --redo {self._context.stage.id}",
            )


@contextmanager
def only_tensors() -> Iterator[None]:
    """Within it, torch.load unpickles tensors and plain values only, although DeepSpeed asks for weights_only=False.
    The classes that DeepSpeed itself stores of an optimizer are allowed."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        kept: list[Any] = [LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address]
        with torch.serialization.safe_globals(kept):
            yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0]}"
