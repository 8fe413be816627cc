"""The processes of a stage: threads, ranks, the process group, and the watch on the driver."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from .heartbeat import Watch, read_process, this_process

# Together less than a minute: the time after the end of its driver within which a worker exits, on every machine.
DRIVER_SILENCE_SECONDS = 20.0  # a driver on another machine whose record did not change for so long counts as dead
DRIVER_GRACE_SECONDS = 30.0  # for saving


@dataclass(frozen=True)
class Ranks:
    """The place of this process among all. `device`: cpu or cuda:<local rank>."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    device: str


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def thread_environment(local_world: int) -> dict[str, str]:
    """Environment for worker processes: cores are shared out, not fought over (2 ranks with 2 threads each
    on 2 cores take six times as long as with one). The number of threads is fixed: libraries that choose it anew for
    each call, by the load of the machine, would add numbers up in another order each time."""
    threads = str(num_threads(local_world))
    return {
        "OMP_NUM_THREADS": threads,
        "OMP_DYNAMIC": "FALSE",
        "MKL_NUM_THREADS": threads,
        "MKL_DYNAMIC": "FALSE",
        "TOKENIZERS_PARALLELISM": "true",
    }


def num_threads(local_world: int) -> int:
    """Threads of each of so many processes on this machine."""
    return max(1, num_cores() // local_world)


def join(device: str) -> Ranks:
    """Join the process group that the launcher's environment describes; one process alone makes its own."""
    os.environ.setdefault("RANK", "0")
    os.environ.setdefault("WORLD_SIZE", "1")
    os.environ.setdefault("LOCAL_RANK", "0")
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(free_port()))
    os.environ.setdefault("DS_ACCELERATOR", device)  # else DeepSpeed looks for one, and warns where it finds none
    rank, world, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    local_world = int(os.environ.get("LOCAL_SIZE", "1"))

    import torch

    torch.set_num_threads(num_threads(local_world))
    _quiet_deepspeed()
    with without_mlflow():
        import deepspeed
        import deepspeed.ops
    _import_muon()
    gc.freeze()  # what the libraries are made of stays: collections between stages need not look at it

    if device == "cuda":
        torch.cuda.set_device(local_rank)
    else:
        # The shared-memory operator is built at every start, leaks, and a lock file left by a killed run
        # hangs the next one for ever. gloo does the work.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not torch.distributed.is_initialized():
        deepspeed.init_distributed("nccl" if device == "cuda" else "gloo", verbose=False)
    place = f"cuda:{local_rank}" if device == "cuda" else "cpu"
    return Ranks(rank=rank, world=world, local_rank=local_rank, local_world=local_world, device=place)


@contextmanager
def without_mlflow() -> Iterator[None]:
    """For an import of DeepSpeed: its autotuner loads MLflow wherever it finds it, which takes longer than DeepSpeed
    itself, and workers do not use it. It has no setting for this."""
    if "mlflow" in sys.modules:
        yield
        return
    sys.modules["mlflow"] = None  # type: ignore[assignment]  # an import of it fails, as if it were not installed
    try:
        yield
    finally:
        del sys.modules["mlflow"]


def _import_muon() -> None:
    """Every ZeRO stage imports Muon, an optimizer that no plan asks for, and its decorators load torch's compiler, for
    seconds. Imported here, it stays as it is written."""
    with suppress(ImportError, AttributeError):  # another version of DeepSpeed
        from deepspeed.runtime import compiler

        own = compiler.compile
        compiler.compile = lambda *arguments, **options: lambda function: function
        try:
            import_module("deepspeed.runtime.zero.muon.original_muon")
        finally:
            compiler.compile = own


def _quiet_deepspeed() -> None:
    import logging

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)


def free_port() -> int:
    """A port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def watch_driver(record: Path) -> threading.Event:
    """Watch the driver that renews this record; the event is set when it is gone. A worker must not outlive the command
    that started it, but it may still save: it exits DRIVER_GRACE_SECONDS later, whatever it is doing.

    Where there is no record there is no driver: the workers were started by hand. A driver in this very process needs
    no watch, and its record is that of one of its runs, not of the process."""
    gone = threading.Event()
    driver = read_process(record)

    def watch() -> None:
        watched = Watch(record, DRIVER_SILENCE_SECONDS)
        while watched.alive():
            time.sleep(1.0)
        gone.set()
        time.sleep(DRIVER_GRACE_SECONDS)
        os._exit(130)

    if record.exists() and (driver is None or not driver.is_process_of(this_process())):
        threading.Thread(target=watch, daemon=True, name="driver-watch").start()
    return gone


class StopRequest:
    """A request to stop, agreed on by all ranks at a step boundary.

    It comes from the driver as a file, or from its end (`driver_gone`)."""

    def __init__(self, file: Path | None, driver_gone: threading.Event | None, ranks: Ranks) -> None:
        self._file = file
        self._ranks = ranks
        self._driver_gone = driver_gone or threading.Event()

    def here(self) -> bool:
        """Has this process been asked to stop?"""
        return self._driver_gone.is_set() or (self._file is not None and self._file.exists())

    def agreed(self) -> bool:
        """Has any rank been asked to stop? Every rank must call this at the same step."""
        if self._ranks.world == 1:
            return self.here()
        import torch
        import torch.distributed as dist

        from .context import control_group

        flag = torch.tensor([int(self.here())])
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=control_group())
        return bool(flag.item())
