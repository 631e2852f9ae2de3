"""Devices by name: their speed, memory and price, from devices.yaml and prices.yaml."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gptexp.errors import UserError, nearest

USABLE = 0.98  # share of a GPU's gigabytes that its driver leaves
DEFAULT_MFU = 0.4  # of dense bf16 peaks; large models reach 0.3 to 0.55
THIS_MACHINE, PRICE_OPTION = (
    "here",
    "--price",
)  # sources of a device and of a price that no file has


@dataclass(frozen=True)
class Price:
    """Dollars for an hour of one device; the source names provider and date."""

    low: float
    high: float
    source: str


@dataclass(frozen=True)
class Device:
    """One device.

    flops: dense bf16 FLOP/s from the data sheet. matmul_flops: those that large products reach; None: not measured.
    memory: bytes that a process can use.
    """

    key: str
    name: str
    flops: float
    matmul_flops: float | None
    memory: int
    price: Price | None
    trains_here: bool = True


@cache
def list_devices() -> dict[str, Device]:
    """Return the devices of devices.yaml by their keys."""
    prices = _read("prices.yaml")["devices"]
    return {
        key: Device(
            key,
            values["name"],
            1e12 * values["tflops"],
            1e12 * values["matmul_tflops"] if "matmul_tflops" in values else None,
            int(values.get("usable", USABLE * values["gigabytes"]) * 2**30),
            Price(**prices[key]) if key in prices else None,
            values.get("trains_here", True),
        )
        for key, values in _read("devices.yaml").items()
    }


def find_device(name: str) -> Device:
    """Return a device by its key.

    Raises:
        UserError: there is none.
    """
    devices = list_devices()
    key = name.lower().replace(" ", "-").replace("_", "-")
    if key not in devices:
        raise UserError(
            f"--device {name}: is not known.{nearest(key, devices)} Allowed: {THIS_MACHINE}, {', '.join(devices)}"
        )
    return devices[key]


def price_date() -> str:
    """Return the day of the prices, as 2026-11-09."""
    return str(_read("prices.yaml")["date"])


def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).with_name(name)).read_text("utf8"))
