"""What this machine has to run on. Standard library only: no framework is loaded to look."""

from __future__ import annotations

import os
import platform
import re
import shutil
from pathlib import Path
from typing import Literal

from ..diagnostics.record import record

# Generations without bfloat16 arithmetic: Kepler to Turing.
_NO_BF16 = re.compile(
    r"\b(K\d0|M\d0|P\d{1,3}|V100S?|T4G?|T\d{3,4}|GTX|RTX (?:20\d\d|[3-8]000)|TITAN|Quadro)\b"
    r"(?!.*(?:Ada|A\d))",
    re.IGNORECASE,
)


@record
class Machine:
    """`count` devices of one kind; `memory_gb` of one device (GiB), for a CPU that of the whole machine;
    None: it could not be found out."""

    device: Literal["cpu", "cuda"]
    name: str
    count: int
    memory_gb: float | None


def detect() -> Machine:
    """The accelerators of this machine, or its CPU. Takes milliseconds without an accelerator.

    CUDA_VISIBLE_DEVICES counts: an empty one means the CPU.
    """
    return _nvidia(Path("/")) or _cpu(Path("/"))


def supports_bf16(device_name: str) -> bool:
    """Has a CUDA device of this name bfloat16 arithmetic? Unknown names have it: every newer one does."""
    return _NO_BF16.search(device_name) is None


def _nvidia(root: Path) -> Machine | None:
    """`root` stands for / in tests."""
    cards = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    nodes = [node for node in (root / "dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", node.name)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    # A container may list all cards of the host and have nodes for its own only.
    count = min(len(cards) or len(nodes), len(nodes))
    if visible is not None:
        chosen = [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
        count = min(count, len(chosen))
    if count == 0:
        return None
    name = "NVIDIA GPU"
    for card in cards:
        if found := re.search(r"^Model:\s*(.+?)\s*$", card.read_text("utf-8", "replace"), re.MULTILINE):
            name = found.group(1)
            break
    return Machine("cuda", name, count, _nvidia_memory_gb())


def _nvidia_memory_gb() -> float | None:
    """Memory of the smallest visible card, GiB."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    import subprocess

    try:
        result = subprocess.run(
            [command, "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    sizes = [float(line) for line in result.stdout.split() if line.strip().replace(".", "").isdigit()]
    return round(min(sizes) / 1024, 1) if sizes else None


def _cpu(root: Path) -> Machine:
    name = ""
    cpuinfo = root / "proc/cpuinfo"
    if cpuinfo.is_file():
        for line in cpuinfo.read_text("utf-8", "replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model", "Hardware") and value.strip():
                name = value.strip()
                break
    name = name or platform.processor() or platform.machine()  # it starts a program: not where the kernel says it
    return Machine("cpu", " ".join(name.split()) or "CPU", 1, _physical_memory_gb())


def _physical_memory_gb() -> float | None:
    try:
        pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
    total = pages * page_bytes
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            text = limit.read_text("ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return round(total / 2**30, 1)
