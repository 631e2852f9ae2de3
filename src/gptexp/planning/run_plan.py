"""The plan of a run: sizes, operations, and for each device memory, time and price."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from gptexp.config.schema import Config
from gptexp.distributed.devices import lightning_precision, pick_device
from gptexp.errors import RunError
from gptexp.machine import available_memory
from gptexp.model.cost import count_active_parameters, count_parameters
from gptexp.planning.changes import find_change
from gptexp.planning.device import DEFAULT_MFU, PRICE_OPTION, THIS_MACHINE, Device, Price
from gptexp.planning.device_memory import MARGIN, DeviceMemory, plan_memory
from gptexp.planning.measure import Speed, measure_speed
from gptexp.planning.workload import Workload

TOKENS_PER_PARAMETER = 20  # compute-optimal (Hoffmann et al. 2022, arXiv 2203.15556)
SMALL_MODEL = 100_000_000  # parameters below which a GPU waits for the host


@dataclass(frozen=True)
class DevicePlan:
    """A run on devices of one kind.

    limit: bytes of one device; None: not known. change: words with which the run fits, and the bytes that it takes
    then. seconds: of training; None: not known. utilisation: share of the dense bf16 peak; None: measured.
    """

    key: str
    name: str
    devices: int
    memory: DeviceMemory
    limit: int | None
    change: tuple[list[str], int] | None = None
    seconds: float | None = None
    utilisation: float | None = None
    price: Price | None = None
    note: str = ""

    @property
    def fits(self) -> bool | None:
        """Whether the run fits with a margin; None where the memory of the device is not known."""
        return None if self.limit is None else self.memory.total <= MARGIN * self.limit

    @property
    def device_hours(self) -> float | None:
        return None if self.seconds is None else self.devices * self.seconds / 3600

    @property
    def dollars(self) -> tuple[float, float] | None:
        """The lowest and the highest price of the training."""
        if self.device_hours is None or self.price is None:
            return None
        return self.device_hours * self.price.low, self.device_hours * self.price.high

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "total_bytes": self.memory.total,
            "fits": self.fits,
            "device_hours": self.device_hours,
            "dollars": self.dollars,
        }


@dataclass(frozen=True)
class RunPlan:
    """Everything that is known of a run before it starts.

    flops: of the training; None: not counted. speed: measured on this machine.
    """

    task: str
    size: str
    workload: Workload
    parameters: int
    active_parameters: int
    flops: int | None
    devices: list[DevicePlan]
    speed: Speed | None
    remarks: list[str]

    @property
    def optimal_tokens(self) -> int:
        return TOKENS_PER_PARAMETER * self.active_parameters

    @property
    def optimal_steps(self) -> int:
        """Steps of the present batch that would read the compute-optimal number of tokens."""
        return max(1, round(self.optimal_tokens / self.workload.tokens_per_step))

    def as_json(self) -> dict[str, Any]:
        workload = self.workload
        return {
            "task": self.task,
            "size": self.size,
            "parameters": self.parameters,
            "active_parameters": self.active_parameters,
            "flops": self.flops,
            "steps": workload.steps,
            "sequences": workload.sequences,
            "tokens_per_sequence": workload.tokens + workload.source,
            "tokens": workload.total_tokens,
            "optimal_tokens": self.optimal_tokens,
            "optimal_steps": self.optimal_steps,
            "vocabulary": workload.model.vocab_size,
            "measured": asdict(self.speed) if self.speed else None,
            "devices": [device.as_json() for device in self.devices],
            "assumptions": [*workload.assumptions, *self.remarks],
        }


def plan_run(
    config: Config,
    workload: Workload,
    devices: list[Device],
    *,
    here: bool,
    measures: bool = True,
    utilisation: float = DEFAULT_MFU,
    dollars_per_hour: float | None = None,
) -> RunPlan:
    """Plan a run on this machine and on devices of other kinds.

    Args:
        here: plan it on this machine, too.
        measures: measure steps here, for the time.
    """
    recomputes = config.trainer.activation_checkpointing
    flops = None
    if workload.is_counted:
        flops = workload.steps * workload.step_flops(recomputes).training
    price = None
    if dollars_per_hour is not None:
        price = Price(dollars_per_hour, dollars_per_hour, PRICE_OPTION)
    plans, remarks, speed = [], [], None
    if here:
        if measures and workload.is_counted:
            try:
                speed = measure_speed(
                    config, workload, pick_device(config.trainer.accelerator).type
                )
            except RunError as error:
                remarks.append(str(error))
        plans.append(_plan_here(config, workload, speed, price))
    plans += [_plan_device(config, workload, d, flops, utilisation, price) for d in devices]
    active = count_active_parameters(workload.model)
    if devices and flops is not None:
        remarks.append(
            f"times on named devices: {utilisation:g} of the dense bf16 peak (--mfu), without validation and evaluation"
        )
        if active < SMALL_MODEL:
            remarks.append(
                "a model of this size reaches a few per cent of a GPU's peak: times on GPUs are lower bounds"
            )
        if config.trainer.precision == "32":
            remarks.append(
                "trainer.precision=32 does not reach the bf16 peak that times are computed from"
            )
    return RunPlan(
        config.task.kind,
        config.model.size,
        workload,
        count_parameters(workload.model),
        active,
        flops,
        plans,
        speed,
        remarks,
    )


def this_device(config: Config) -> tuple[bool, str, int | None]:
    """Return whether a run here computes on a GPU, the name of its device, and the bytes that are free or its own."""
    device = pick_device(config.trainer.accelerator)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return True, properties.name, properties.total_memory
    return False, f"CPU, {torch.get_num_threads()} threads", available_memory()


def _plan_here(
    config: Config, workload: Workload, speed: Speed | None, price: Price | None
) -> DevicePlan:
    on_gpu, name, limit = this_device(config)
    if limit is not None and not on_gpu:
        limit //= config.trainer.devices
    device = pick_device(config.trainer.accelerator)
    bf16 = lightning_precision(config.trainer.precision, device) == "bf16-mixed"
    trainer = config.trainer
    memory = plan_memory(config, workload, on_gpu=on_gpu, bf16=bf16, device_bytes=limit)
    seconds, change = None, None
    if speed:
        processes = 1 if on_gpu else trainer.devices  # those on a CPU share its cores
        seconds = workload.steps * speed.step_seconds * processes
    if limit is not None and memory.total > MARGIN * limit:
        change = _describe_change(config, workload, limit, on_gpu, bf16)
    return DevicePlan(
        THIS_MACHINE,
        name,
        trainer.devices * trainer.nodes,
        memory,
        limit,
        change,
        seconds,
        price=price,
        note=f"stands for each of {trainer.nodes} alike" if trainer.nodes > 1 else "",
    )


def _plan_device(
    config: Config,
    workload: Workload,
    device: Device,
    flops: int | None,
    utilisation: float,
    price: Price | None,
) -> DevicePlan:
    trainer = config.trainer
    count, bf16 = trainer.devices * trainer.nodes, trainer.precision != "32"
    memory = plan_memory(config, workload, on_gpu=True, bf16=bf16, device_bytes=device.memory)
    change = None
    if memory.total > MARGIN * device.memory:
        change = _describe_change(config, workload, device.memory, True, bf16)
    seconds = None if flops is None else flops / (count * utilisation * device.flops)
    note = "" if device.trains_here else "gptexp does not train on it"
    if device.matmul_flops and utilisation > device.matmul_flops / device.flops:
        reached = device.matmul_flops / device.flops
        note = f"--mfu {utilisation:g} is too high: large matrix products reach {reached:.2f} of its peak"
    return DevicePlan(
        device.key,
        device.name,
        count,
        memory,
        device.memory,
        change,
        seconds,
        utilisation,
        price or device.price,
        note,
    )


def _describe_change(
    config: Config, workload: Workload, limit: int, on_gpu: bool, bf16: bool
) -> tuple[list[str], int] | None:
    change = find_change(config, workload, limit, on_gpu=on_gpu, bf16=bf16)
    return None if change is None else (change[0], change[1].total)
