"""Names of devices as drivers write them -> their peaks; hours from operations."""

import pytest

from distilc.compiler.estimates.devices import CPU_CORE, DEVICES, named_device, shown_devices


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A100 80GB PCIe", "A100"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A10G", None),  # another chip
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L40", None),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA GeForce RTX 2080 Ti", "RTX 2080 Ti"),
        ("NVIDIA GeForce RTX 2080", None),
        ("NVIDIA GeForce RTX 3090", "RTX 3090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("AMD Instinct MI250X", "MI250X"),
        ("AMD Instinct MI300X", "MI300X"),
        ("a100", "A100"),
        ("NVIDIA GPU", None),
        ("AMD EPYC 7763", None),
    ],
)
def test_names(written, name):
    found = named_device(written)
    assert (found and found.name) == name


def test_every_device_is_found_by_its_own_name():
    for name, device in DEVICES.items():
        assert named_device(name) is device


def test_hours():
    a100 = DEVICES["A100"]
    assert a100.hours(312e12 * 3600, "bf16", 1.0) == pytest.approx(1)
    assert a100.hours(312e12 * 3600, "fp16", 0.5) == pytest.approx(2)
    assert a100.hours(19.5e12 * 3600, "fp32", 1.0) == pytest.approx(1)


def test_16_bits_are_faster_on_every_accelerator():
    assert all(device.half > device.single for device in DEVICES.values())
    assert CPU_CORE.half == CPU_CORE.single


def test_what_is_shown():
    assert [device.name for device in shown_devices("cpu", "A100")] == ["CPU core"]
    assert [device.name for device in shown_devices("cuda", "NVIDIA H200")] == ["H200"]
    assert len(shown_devices("cuda", "NVIDIA GPU")) > 1
