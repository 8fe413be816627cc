"""Checkpoints of a training under way: saved at step boundaries, resumed bit for bit.

    <scratch>/checkpoints/<tag>/     what DeepSpeed wrote
    <scratch>/checkpoint.json        which tag is complete (replaced by rename), and under what it was made

Resuming is exact on the same number of ranks and threads. On others the result would differ, so it is
refused with the difference named.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import torch

from ..context import Context
from ..failure import Failure

MARKER = "checkpoint.json"
# Conditions of checkpoints that do not name them.
BEFORE_CHOICES = {"teacher": "whole", "offload": "none", "checkpointing": "off"}


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
        if self._context.first:
            earlier = self._read()
            record = {"tag": tag, "step": step, "state": state, "conditions": self._conditions()}
            temporary = self._marker.with_suffix(".tmp")
            temporary.write_text(json.dumps(record, allow_nan=False), "utf-8")
            temporary.replace(self._marker)
            (self._context.scratch / "seconds.json").write_text(json.dumps(state["seconds"], allow_nan=False), "utf-8")
            if earlier is not None and earlier["tag"] != tag:
                shutil.rmtree(self._folder / earlier["tag"], ignore_errors=True)

    def resume(self) -> tuple[int, dict[str, Any]] | None:
        """Load the last complete checkpoint: (step, state); None: there is none.

        Raises `Failure` R304: it was made under conditions under which the result would differ."""
        record = self._context.gather(self._read() if self._context.first else None)[0]
        if record is None:
            return None
        self._require_conditions(record)
        # Weights are read as pickles by torch, but only ever from this workspace's own scratch folder.
        path, _ = self._engine.load_checkpoint(str(self._folder), record["tag"], load_module_strict=False)
        if path is None:
            raise Failure(
                "R304",
                f"the checkpoint {self._folder / record['tag']} cannot be read",
                f"start the stage over: --redo {self._context.stage.id}",
            )
        return int(record["step"]), record["state"]

    def last_step(self) -> int:
        """The step of the last complete checkpoint, on every rank: rank 0 writes its record, and alone reads it."""
        record = self._context.gather(self._read() if self._context.first else None)[0]
        assert record is not None  # a training ends with a checkpoint
        return int(record["step"])

    def _read(self) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads(self._marker.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return record

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
            for name, then in (BEFORE_CHOICES | record["conditions"]).items()
            if then != now.get(name)
        ]
        if differences:
            raise Failure(
                "R304",
                f"stage {self._context.stage.id} was interrupted after step {record['step']} under other conditions "
                f"({'; '.join(differences)}); going on would give another result",
                f"run it under the same conditions, or start the stage over: --redo {self._context.stage.id}",
            )
