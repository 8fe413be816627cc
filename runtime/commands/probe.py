"""What the heavy libraries say about this machine, as one line of JSON: `python -m distilc.runtime.commands.probe`.

A process of its own: an import that crashes, hangs or talks is a finding, not the end of `doctor`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..messages.terminal import tell


def probe() -> dict[str, Any]:
    """Finding -> facts, or {"error": text}."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "torch": _torch,
        "gloo": _gloo,
        "transformers": lambda: _version("transformers"),
        "mlflow": lambda: _version("mlflow"),
        "deepspeed": _deepspeed,
    }
    found: dict[str, Any] = {}
    for name, part in parts.items():
        try:
            found[name] = part()
        except Exception as error:
            text = str(error).strip().splitlines()
            found[name] = {"error": text[0] if text else type(error).__name__}
    return found


def _version(name: str) -> dict[str, Any]:
    return {"version": str(importlib.import_module(name).__version__)}


def _torch() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
    memory = [torch.cuda.get_device_properties(i).total_memory for i in range(len(devices))]
    return {
        "version": str(torch.__version__),
        "built_for": torch.version.cuda,
        "devices": devices,
        "memory_bytes": memory,
        "bf16": bool(torch.cuda.is_bf16_supported()) if cuda else None,
        "threads": torch.get_num_threads(),
    }


def _gloo() -> dict[str, Any]:
    """Can the processes of a stage find each other here?"""
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    with tempfile.TemporaryDirectory() as folder:
        store = f"file://{Path(folder) / 'rendezvous'}"
        dist.init_process_group("gloo", init_method=store, rank=0, world_size=1, timeout=timedelta(seconds=20))
        one = torch.ones(1)
        dist.all_reduce(one)
        dist.destroy_process_group()
    return {"works": bool(one.item() == 1)}


def _deepspeed() -> dict[str, Any]:
    deepspeed = importlib.import_module("deepspeed")
    accelerator = importlib.import_module("deepspeed.accelerator").get_accelerator()
    return {"version": str(deepspeed.__version__), "accelerator": str(accelerator.device_name())}


if __name__ == "__main__":
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    with contextlib.redirect_stdout(sys.stderr):
        answer = probe()
    tell(json.dumps(answer, allow_nan=False))
