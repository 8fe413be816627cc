"""`doctor`: is this machine fit to run plans? Each check says ok, warn or fail, and what to type."""

from __future__ import annotations

import argparse
import json
import locale
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..execution.processes import num_cores
from ..extensions import survey
from ..messages.credentials import redact, without_credentials
from ..messages.terminal import tell
from ..tracking.server import sqlite_file, tracking_uri
from ..training.cpu_adam import INSTALL, missing_tools, tool

PROBE_SECONDS = 180
SERVER_SECONDS = 5
PROBE_FILE_BYTES = 256 << 20
LOW_DISK_BYTES = 10 << 30
LOW_MEMORY_BYTES = 4 << 30
GIGABYTE = 1e9
SET_HOME = "export HOME=DIR, a folder that you may write into"


@dataclass(frozen=True)
class Finding:
    """`hint`: what to type, or empty."""

    state: Literal["ok", "warn", "fail"]
    subject: str
    message: str
    hint: str = ""


@dataclass
class Machine:
    """The machine under examination. `libraries`: what `probe` said; `measured` goes into doctor.json."""

    workspace: Path
    file_bytes: int = PROBE_FILE_BYTES
    libraries: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)


def main(argv: Sequence[str]) -> int:
    """`doctor --workspace DIR`. Returns the exit code: 1 when something fails."""
    parser = argparse.ArgumentParser(prog="distilc doctor", description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path(".distilc"))
    machine = Machine(parser.parse_args(argv).workspace)
    findings = []
    for finding in examine(machine):
        findings.append(finding)
        tell(f"{finding.state:<5}{finding.subject:<14}{finding.message}")
        if finding.hint:
            tell(f"{'':<19}{finding.hint}")
    num_failed = sum(finding.state == "fail" for finding in findings)
    num_warned = sum(finding.state == "warn" for finding in findings)
    tell(f"\n{len(findings) - num_failed - num_warned} ok, {num_warned} to look at, {num_failed} failed")
    return 1 if num_failed else 0


def examine(machine: Machine) -> Iterator[Finding]:
    """All checks, one after the other; what was measured is kept in `<workspace>/doctor.json`."""
    machine.libraries = ask_libraries()
    for check in CHECKS:
        yield from check(machine)
    try:
        record = {"format": 1, "time": time.time(), "host": socket.gethostname(), **machine.measured}
        text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False)
        (machine.workspace / "doctor.json").write_text(text + "\n", "utf-8")
    except OSError:
        return  # check_workspace has said why


def ask_libraries() -> dict[str, Any]:
    """What `probe` finds in a process of its own."""
    command = [sys.executable, "-m", f"{__package__}.probe"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": f"asking the libraries failed: {error}"}
    try:
        found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
        return found
    except (ValueError, IndexError):
        last = answer.stderr.strip().splitlines()[-1:] or [f"exit code {answer.returncode}"]
        return {"error": f"asking the libraries failed: {last[0]}"}


def check_python(_: Machine) -> Iterator[Finding]:
    yield Finding("ok", "python", f"{'.'.join(map(str, sys.version_info[:3]))} ({sys.executable})")


def check_libraries(machine: Machine) -> Iterator[Finding]:
    if "error" in machine.libraries:
        hint = f"{sys.executable} -m {__package__}.probe"
        yield Finding("fail", "libraries", machine.libraries["error"], hint)
        return
    for name in ("torch", "transformers", "deepspeed", "mlflow"):
        found = machine.libraries[name]
        if "error" in found:
            homeless = "home directory" in found["error"].lower()
            hint = SET_HOME if homeless else f"{sys.executable} -m pip install --force-reinstall {name}"
            yield Finding("fail", name, f"does not import: {found['error']}", hint)
        else:
            yield Finding("ok", name, found["version"])


def check_extensions(_: Machine) -> Iterator[Finding]:
    """Terms, metrics, families and stage kinds of other packages."""
    for words, failure in survey():
        if failure is None:
            yield Finding("ok", "extension", words)
        else:
            yield Finding("warn", "extension", failure.message, failure.hint)


def check_accelerator(machine: Machine) -> Iterator[Finding]:
    torch = machine.libraries.get("torch", {})
    if "version" not in torch:
        return
    devices = torch["devices"]
    machine.measured["devices"] = devices
    if devices:
        sizes = ", ".join(
            f"{name} ({size / GIGABYTE:.0f} GB)" for name, size in zip(devices, torch["memory_bytes"], strict=True)
        )
        yield Finding("ok", "accelerator", f"cuda: {sizes}")
        if torch["bf16"]:
            yield Finding("ok", "bf16", "the device computes in bf16")
        else:
            yield Finding("warn", "bf16", "the device has no bf16", "in the spec: precision: fp32")
    elif torch["built_for"] is not None and shutil.which("nvidia-smi"):
        hint = "nvidia-smi; if it lists the device, install a torch built for its driver"
        yield Finding(
            "warn", "accelerator", f"torch for CUDA {torch['built_for']} sees no device; the CPU is used", hint
        )
    else:
        yield Finding("ok", "accelerator", "none; the CPU is used")
        yield _cpu_bf16()
    found = machine.libraries.get("deepspeed", {})
    if "accelerator" in found and found["accelerator"].partition(":")[0] != ("cuda" if devices else "cpu"):
        hint = f"export DS_ACCELERATOR={'cuda' if devices else 'cpu'}"
        yield Finding("warn", "deepspeed", f"takes the accelerator for {found['accelerator']!r}", hint)


def _cpu_bf16() -> Finding:
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        flags = set()
    if flags & {"avx512_bf16", "amx_bf16"}:
        return Finding("ok", "bf16", "the processor computes in bf16")
    return Finding("ok", "bf16", "not in this processor's hardware: slow here; fp32 is the default on a CPU")


def check_processes(machine: Machine) -> Iterator[Finding]:
    gloo = machine.libraries.get("gloo", {})
    if "error" in gloo:
        host = socket.gethostname()
        hint = f"does {host} resolve? getent hosts {host}; or: export GLOO_SOCKET_IFNAME=lo"
        yield Finding("fail", "processes", f"cannot talk to each other: {gloo['error']}", hint)
    elif gloo:
        yield Finding("ok", "processes", "can talk to each other (gloo)")


def check_compiler(_: Machine) -> Iterator[Finding]:
    """Can DeepSpeed's CPU Adam be compiled, which `offload` of a site steps with?"""
    if missing := missing_tools():
        yield Finding("warn", "compiler", f"no {' and no '.join(missing)}; offload alone needs it", INSTALL)
    else:
        yield Finding("ok", "compiler", f"{tool('c++')}, {tool('ninja')}: optimizers can be offloaded")


def check_workspace(machine: Machine) -> Iterator[Finding]:
    workspace = machine.workspace
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        write, read = disk_bandwidth(workspace, machine.file_bytes)
        free = shutil.disk_usage(workspace).free
    except OSError as error:
        hint = "give another one with --workspace DIR"
        yield Finding("fail", "workspace", f"cannot write into {workspace.absolute()}: {error.strerror}", hint)
        return
    machine.measured.update(write_bytes_per_second=write, read_bytes_per_second=read, free_bytes=free)
    yield Finding("ok", "workspace", str(workspace.absolute()))
    if free < LOW_DISK_BYTES:
        hint = f"make room, or --workspace DIR on another disk; du -sh {workspace}/*"
        yield Finding("warn", "disk", f"{free / GIGABYTE:.1f} GB free", hint)
    else:
        yield Finding("ok", "disk", f"{free / GIGABYTE:.0f} GB free")
    words = f"writes {write / 1e6:.0f} MB/s, reads {read / 1e6:.0f} MB/s"
    yield Finding("ok", "bandwidth", f"{words} (site file: `scratch: {{read_gb_per_second: {read / 1e9:.2g}}}`)")


def disk_bandwidth(folder: Path, num_bytes: int) -> tuple[float, float]:
    """Bytes a second, written until they are on the disk and read past the cache as far as the system lets us.

    Raises `OSError`."""
    block = os.urandom(4 << 20)
    num_blocks = max(1, num_bytes // len(block))
    path = folder / f".bandwidth.{os.getpid()}"
    try:
        started = time.perf_counter()
        with path.open("wb", buffering=0) as file:
            for _ in range(num_blocks):
                file.write(block)
            os.fsync(file.fileno())
        write_seconds = time.perf_counter() - started
        with path.open("rb", buffering=0) as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            started = time.perf_counter()
            while file.read(len(block)):
                pass
            read_seconds = time.perf_counter() - started
    finally:
        path.unlink(missing_ok=True)
    size = num_blocks * len(block)
    return size / write_seconds, size / read_seconds


def check_processor(machine: Machine) -> Iterator[Finding]:
    cores, quota = num_cores(), cpu_quota(Path("/sys/fs/cgroup/cpu.max"))
    machine.measured["cores"] = cores
    if quota is not None and quota < cores:
        hint = f"taskset -c 0-{max(0, int(quota) - 1)} distilc run ..."
        message = (
            f"{cores} cores are seen, but the container may use {quota:g}: too many threads get in each other's way"
        )
        yield Finding("warn", "cores", message, hint)
    else:
        yield Finding("ok", "cores", f"{cores}; a stage shares them out among its processes")
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is not None:
        yield Finding("ok", "threads", f"OMP_NUM_THREADS={threads} is set; the workers of a run get their own")


def cpu_quota(file: Path) -> float | None:
    """Cores that a container may use (cgroup v2's cpu.max); None: no limit."""
    try:
        quota, period = file.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def check_memory(machine: Machine) -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    machine.measured["memory_bytes"] = memory.total
    message = f"{memory.available / GIGABYTE:.1f} of {memory.total / GIGABYTE:.1f} GB available"
    if memory.available < LOW_MEMORY_BYTES:
        yield Finding("warn", "memory", message, "close what needs it: ps aux --sort=-rss | head")
    else:
        yield Finding("ok", "memory", message)


def check_tracking(machine: Machine) -> Iterator[Finding]:
    uri = tracking_uri(None, machine.workspace)
    file, shown = sqlite_file(uri), redact(uri)
    if file is not None:
        yield Finding("ok", "tracking", f"{shown}{'' if file.exists() else ' (made by the first run)'}")
    elif not uri.startswith(("http://", "https://")):
        yield Finding("ok", "tracking", f"{shown} (not tried)")
    else:
        yield _reach(uri, shown)


def _reach(uri: str, shown: str) -> Finding:
    hint = "is the server up? what is tracked waits on disk until it is"
    try:
        with urllib.request.urlopen(without_credentials(uri).rstrip("/") + "/health", timeout=SERVER_SECONDS):
            return Finding("ok", "tracking", f"{shown} answers")
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return Finding("ok", "tracking", f"{shown} answers, and asks for credentials")
        return Finding("warn", "tracking", f"{shown} answers with {error.code}", hint)
    except (OSError, ValueError) as error:
        return Finding("warn", "tracking", f"{shown} does not answer: {getattr(error, 'reason', error)}", hint)


def check_hub(_: Machine) -> Iterator[Finding]:
    user = os.path.expanduser("~")
    if user == "~":  # what the libraries then take for a folder of that name, where the command is typed
        yield Finding("warn", "home", f"there is none: HOME is not set, and user {os.getuid()} is not known", SET_HOME)
    home = Path(os.environ.get("HF_HOME") or Path(user) / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    models = sorted(folder.name for folder in cache.glob("models--*")) if cache.is_dir() else []
    existing = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    if os.access(existing, os.W_OK):
        yield Finding("ok", "hub cache", f"{cache}: {len(models)} models")
    else:
        yield Finding("warn", "hub cache", f"cannot write into {cache}", "export HF_HOME=DIR")
    offline = [
        name for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)
    ]
    if offline:
        yield Finding("ok", "offline", f"{', '.join(offline)} set: only what is in the cache is found")


def check_locale(_: Machine) -> Iterator[Finding]:
    encodings = {locale.getpreferredencoding(False).lower(), sys.getfilesystemencoding().lower()}
    if encodings <= {"utf-8", "utf8"}:
        yield Finding("ok", "locale", "UTF-8")
    else:
        yield Finding(
            "warn", "locale", f"is {', '.join(sorted(encodings))}, not UTF-8", "export PYTHONUTF8=1 LC_ALL=C.UTF-8"
        )


CHECKS: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    check_python,
    check_libraries,
    check_extensions,
    check_accelerator,
    check_processes,
    check_compiler,
    check_processor,
    check_memory,
    check_workspace,
    check_tracking,
    check_hub,
    check_locale,
)
