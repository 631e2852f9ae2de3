import pytest
import torch

from gptexp.distributed.hardware import (
    describe_device,
    driver_version,
    peak_bf16_flops,
    peak_memory_gib,
    peak_of_gpu,
)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA GH200 480GB", 989),
        ("NVIDIA B200", 2250),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("AMD Instinct MI300X", 1307.4),
    ],
)
def test_the_peak_of_a_gpu_follows_from_its_name(name, tflops):
    assert peak_of_gpu(name) == tflops * 1e12


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA A10G",
        "Tesla T4",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA H1000",
    ],
)
def test_an_unknown_gpu_or_a_part_of_one_has_no_peak(name):
    assert peak_of_gpu(name) is None


def test_a_cpu_is_described_and_has_a_peak_of_memory_but_none_of_speed():
    device = torch.device("cpu")
    assert describe_device(device) == {"type": "cpu", "threads": torch.get_num_threads()}
    assert peak_bf16_flops(device) is None
    assert 0.01 < peak_memory_gib(device) < 1000  # the unit of the system's figure differs


def test_the_driver_is_the_one_that_nvidia_smi_tells(own_folder, monkeypatch):
    program = own_folder / "nvidia-smi"
    monkeypatch.setenv("PATH", str(own_folder))
    assert driver_version() is None
    for text, expected in (("echo 570.86.15; echo 570.86.15", "570.86.15"), ("exit 9", None)):
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        assert driver_version() == expected
