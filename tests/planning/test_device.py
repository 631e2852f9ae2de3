import pytest

from gptexp.distributed.hardware import peak_of_gpu
from gptexp.errors import UserError
from gptexp.planning.device import find_device, list_devices


def test_peaks_are_those_that_the_utilisation_of_a_run_is_computed_from():
    names = {device.name: device.flops for device in list_devices().values()}
    known = {name: peak_of_gpu(name) for name in names if "GB200" not in name}
    assert len([peak for peak in known.values() if peak]) >= 10
    assert all(names[name] == peak for name, peak in known.items() if peak)


def test_products_are_not_faster_than_the_peak_and_prices_are_ordered():
    for device in list_devices().values():
        assert device.matmul_flops is None or device.matmul_flops < device.flops
        assert device.price is None or 0 < device.price.low <= device.price.high
        assert device.price is None or "2026" in device.price.source


def test_error_correction_takes_a_part_of_the_memory_of_some_cards():
    devices = list_devices()
    assert [devices[key].memory / 2**30 for key in ("l4", "l40s")] == pytest.approx([22.2, 44.5])


def test_an_unknown_device_is_answered_by_the_nearest():
    assert find_device("H100").name == "NVIDIA H100 SXM"
    with pytest.raises(
        UserError, match=r"--device h10: is not known. Did you mean 'h100'\? Allowed: here, a100"
    ):
        find_device("h10")
