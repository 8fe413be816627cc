"""What the machine is doing: processor and memory, and its GPUs when NVIDIA's library is installed."""

from __future__ import annotations

from typing import Any

GIGABYTE = 1e9


class Machine:
    """`sample()` gives percentages since the sample before, and gigabytes in use now."""

    def __init__(self) -> None:
        import psutil

        self._psutil = psutil
        psutil.cpu_percent()  # the first answer is always 0
        self._gpus = _gpus()

    def sample(self) -> dict[str, float]:
        values = {
            "cpu_percent": float(self._psutil.cpu_percent()),
            "memory_gb": self._psutil.virtual_memory().used / GIGABYTE,
        }
        for number, (library, gpu) in enumerate(self._gpus):
            values[f"gpu_{number}_percent"] = float(library.nvmlDeviceGetUtilizationRates(gpu).gpu)
            values[f"gpu_{number}_memory_gb"] = library.nvmlDeviceGetMemoryInfo(gpu).used / GIGABYTE
        return values


def _gpus() -> list[tuple[Any, Any]]:
    try:
        import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]

        pynvml.nvmlInit()
        return [(pynvml, pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # no library, no driver, no GPU: nothing to measure
        return []
