"""Peak arithmetic of named devices, for estimates of time."""

from __future__ import annotations

import re

from ..diagnostics.record import record

# Shares of the peak that are reached, assumed everywhere: training is bound by arithmetic, generation with its one
# token at a time by memory.
TRAINING_UTILISATION = 0.4
GENERATION_UTILISATION = 0.05


@record
class Device:
    """One device. `half`: dense 16-bit matrix arithmetic with fp32 accumulation, `single`: fp32 without
    TF32, both in teraflops at the peak."""

    name: str
    half: float
    single: float

    def hours(self, flops: float, precision: str, utilisation: float) -> float:
        """How long so many operations take at a fraction of the peak."""
        peak = self.single if precision == "fp32" else self.half
        return flops / (peak * 1e12 * utilisation) / 3600


CPU_CORE = Device("CPU core", 0.08, 0.08)  # 2.5 GHz, two 256-bit fused multiply-adds a cycle; nothing for 16 bits

# Figures of the makers' data sheets (for the GeForce cards: of NVIDIA's whitepapers on Turing, Ampere GA102 and
# Ada), without sparsity. H100 and H200: SXM. MI250X: one of its two dies, which is one device to PyTorch.
_DEVICES: tuple[tuple[str, Device], ...] = (
    (r"V100", Device("V100", 125.0, 15.7)),
    (r"T4\b", Device("T4", 65.0, 8.1)),
    (r"A10\b", Device("A10", 125.0, 31.2)),
    (r"A100", Device("A100", 312.0, 19.5)),
    (r"L4\b", Device("L4", 121.0, 30.3)),
    (r"L40S", Device("L40S", 362.0, 91.6)),
    (r"H100.*PCIe", Device("H100 PCIe", 756.0, 51.2)),
    (r"H100", Device("H100", 989.4, 66.9)),
    (r"H200", Device("H200", 989.4, 66.9)),
    (r"RTX 2080 Ti", Device("RTX 2080 Ti", 53.8, 13.4)),
    (r"RTX 3090\b(?! Ti)", Device("RTX 3090", 71.0, 35.6)),
    (r"RTX 4090\b(?! D)", Device("RTX 4090", 165.2, 82.6)),
    (r"MI250X", Device("MI250X", 191.5, 23.9)),
    (r"MI300X", Device("MI300X", 1307.4, 163.4)),
)
DEVICES = {device.name: device for _, device in _DEVICES}
COMMON = ("RTX 2080 Ti", "A100", "H100")  # shown where the site's own device is not known


def named_device(name: str) -> Device | None:
    """The device of a name as drivers and people write it (`NVIDIA A100-SXM4-80GB`); None: not in the table."""
    for pattern, device in _DEVICES:
        if re.search(rf"\b{pattern}", name, re.IGNORECASE):
            return device
    return None


def shown_devices(kind: str, name: str) -> tuple[Device, ...]:
    """The devices for which times are worth telling: the site's own, or some that many people have."""
    if kind == "cpu":
        return (CPU_CORE,)
    own = named_device(name)
    return (own,) if own is not None else tuple(DEVICES[common] for common in COMMON)
