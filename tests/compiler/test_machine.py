"""What a machine has, from /proc and /dev alone."""

import pytest

from distilc.compiler.resolve.machine import _cpu, _nvidia, detect, supports_bf16


def cards(root, *names, nodes=None):
    for i, name in enumerate(names):
        folder = root / "proc/driver/nvidia/gpus" / f"0000:0{i}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 1\n", "utf-8")
    (root / "dev").mkdir()
    for i in range(len(names) if nodes is None else nodes):
        (root / "dev" / f"nvidia{i}").touch()
    (root / "dev" / "nvidiactl").touch()


@pytest.fixture(autouse=True)
def no_nvidia_smi(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_gpus(tmp_path):
    cards(tmp_path, "NVIDIA H200", "NVIDIA H200")
    found = _nvidia(tmp_path)
    assert (found.device, found.name, found.count, found.memory_gb) == ("cuda", "NVIDIA H200", 2, None)


def test_a_container_with_fewer_nodes_than_the_host_has_cards(tmp_path):
    cards(tmp_path, "NVIDIA H200", "NVIDIA H200", nodes=1)
    assert _nvidia(tmp_path).count == 1


@pytest.mark.parametrize(("visible", "count"), [("0", 1), ("1,0", 2), ("", None), ("-1", None)])
def test_visible_devices_count(tmp_path, monkeypatch, visible, count):
    cards(tmp_path, "NVIDIA H200", "NVIDIA H200")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = _nvidia(tmp_path)
    assert found is None if count is None else found.count == count


def test_no_gpu(tmp_path):
    assert _nvidia(tmp_path) is None


def test_the_cpu_by_its_name(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nmodel name\t: AMD  EPYC 9V74 \n", "utf-8")
    found = _cpu(tmp_path)
    assert (found.device, found.name, found.count) == ("cpu", "AMD EPYC 9V74", 1)
    assert found.memory_gb is not None and found.memory_gb > 0


def test_this_machine_has_something():
    assert detect().count >= 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H200", True), ("NVIDIA A100-SXM4-80GB", True), ("NVIDIA A10G", True), ("NVIDIA L4", True),
        ("NVIDIA GeForce RTX 3090", True), ("NVIDIA RTX A6000", True), ("NVIDIA RTX 6000 Ada Generation", True),
        ("Tesla V100-SXM2-32GB", False), ("Tesla T4", False), ("Tesla P100-PCIE-16GB", False),
        ("NVIDIA GeForce RTX 2080 Ti", False), ("Quadro RTX 8000", False), ("NVIDIA TITAN RTX", False),
    ],
)  # fmt: skip
def test_bf16_by_name(name, expected):
    assert supports_bf16(name) is expected
