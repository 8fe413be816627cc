"""The launcher of one machine: a program that starts a worker for each device, at the end of a line from the driver.

The workers find the variables that `torch.distributed` and DeepSpeed read. DeepSpeed's own launcher does this, too, but
imports torch and all of DeepSpeed for it, which takes seconds, and looks once a second whether a worker has ended.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, NoReturn

import psutil

from .processes import DRIVER_GRACE_SECONDS, DRIVER_SILENCE_SECONDS, thread_environment

VISIBLE = "CUDA_VISIBLE_DEVICES"
KILL = "kill\n"  # what the driver writes
LAST_SECONDS = 1.0  # for the others to say why, where one worker has failed
TERMINATE_SECONDS = 30.0  # then, for them to end


def main(argv: Sequence[str]) -> int:
    """Start the workers of this machine and wait for them. Returns 0, or the exit code of the first that failed (128
    plus the number of the signal that killed it); the others are ended then."""
    options = read_options(argv)
    if os.getpid() == os.getpgrp():  # started by a driver, and not within a group of others
        line = os.fdopen(os.dup(0))  # of this process only: the workers do not inherit it
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        threading.Thread(target=_end_with_driver, args=(line,), daemon=True, name="driver-line").start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    try:
        command = [sys.executable, "-u", "-m", options.module, *options.arguments]
        waiting = {os.posix_spawn(sys.executable, command, own) for own in worker_environments(options)}
        while waiting:
            pid, status = os.wait()
            waiting.remove(pid)
            if code := os.waitstatus_to_exitcode(status):
                return code if code > 0 else 128 - code
        return 0
    finally:
        _end_workers()


def read_options(argv: Sequence[str]) -> argparse.Namespace:
    """Those of the command that launch.py makes."""
    parser = argparse.ArgumentParser(prog="python -m distilc.runtime.execution.launcher")
    parser.add_argument("--devices", required=True)
    parser.add_argument("--node", required=True, type=int)
    parser.add_argument("--nodes", required=True, type=int)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", required=True)
    parser.add_argument("module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser.parse_args(argv)


def worker_environments(options: argparse.Namespace) -> list[dict[str, str]]:
    """One for each worker of this machine; every machine has as many devices."""
    devices = options.devices.split(",")
    common = {
        **os.environ, **thread_environment(len(devices)), VISIBLE: options.devices, "LOCAL_SIZE": str(len(devices)),
        "WORLD_SIZE": str(options.nodes * len(devices)), "MASTER_ADDR": options.address, "MASTER_PORT": options.port,
        "CROSS_RANK": str(options.node), "CROSS_SIZE": str(options.nodes),  # DeepSpeed's words for node and nodes
    }  # fmt: skip
    first = options.node * len(devices)
    return [{**common, "RANK": str(first + i), "LOCAL_RANK": str(i)} for i in range(len(devices))]


def _end(number: int, frame: object) -> NoReturn:
    sys.exit(1)


def _end_workers() -> None:
    """Terminate what is left of the workers and of what they started; what does not obey is killed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _, left = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=LAST_SECONDS)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(left, timeout=TERMINATE_SECONDS)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _end_with_driver(line: IO[str]) -> None:
    """Kill this process and its workers when the driver asks for it, or some time after the connection broke: they
    notice the end of the driver by themselves, and save."""
    if line.readline() != KILL:
        time.sleep(DRIVER_SILENCE_SECONDS + DRIVER_GRACE_SECONDS + 5.0)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
