"""Stragglers: ranks whose own work takes longer than that of the others, who wait for them in every step.

The own work of a rank is a step without the part in which the ranks reduce gradients: all of them leave that part at
the same time, whoever is late. With trainer.strategy=fsdp they also wait for each other in the forward pass, where
sharded weights are gathered: then only a late batch or a slow callback shows. Ranks compare their times where a line
of metrics.jsonl is written, and at no other time.
"""

import platform
import statistics
import sys
import time
from typing import Any

import torch

from gptexp.distributed.hardware import peak_memory_gib
from gptexp.distributed.process_group import ProcessGroup
from gptexp.runs import timings
from gptexp.training.throughput import ThroughputMeter

SLOW_RATIO = 1.2  # of a rank's own work to the median of the others
MIN_SHARE = 0.05  # of the step, which the others lose by it
MIN_STEPS = 10  # to judge by; the times of fewer are noise


class ExchangeTimer:
    """Measures how long this rank is in the part of a step in which the ranks reduce gradients.

    On a GPU the host is far ahead of the device when this part begins. So CUDA events measure the forward pass.
    """

    def __init__(self, device: torch.device, is_active: bool) -> None:
        self.is_active, self.uses_events = is_active, is_active and device.type == "cuda"
        self.start_event: torch.cuda.Event | None = None
        self.events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self.step_started = self.exchange_started = 0.0
        self.forward_seconds = self.exchange_seconds = 0.0

    def start_step(self) -> None:
        """Note that the batch is there."""
        self.step_started, self.exchange_started = time.perf_counter(), 0.0
        self.start_event = _record_event() if self.uses_events else None

    def start_exchange(self) -> None:
        """Note that the last backward pass of the step begins."""
        if self.is_active:
            self.exchange_started = time.perf_counter()
            if self.start_event:
                self.events.append((self.start_event, _record_event()))

    def end_exchange(self) -> None:
        """Note that this rank has read a value to which all ranks have contributed."""
        if self.exchange_started:
            self.forward_seconds += self.exchange_started - self.step_started
            self.exchange_seconds += time.perf_counter() - self.exchange_started

    def read(self) -> float:
        """Return the seconds of the exchange since the last call, without those of the device's own forward passes."""
        done = [pair for pair in self.events if pair[1].query()]  # waits for nothing
        self.events = [pair for pair in self.events if pair not in done]
        on_device = sum(start.elapsed_time(end) for start, end in done) / 1000
        own = max(0.0, on_device - self.forward_seconds)
        seconds = max(0.0, self.exchange_seconds - own)
        self.forward_seconds = self.exchange_seconds = 0.0
        return seconds


def _record_event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


class StragglerWatch:
    """Compares the ranks where a line is written, and names each slow one once, on stderr."""

    def __init__(self, process_group: ProcessGroup, device: torch.device) -> None:
        self.process_group, self.device = process_group, device
        self.named: set[int] = set()
        self.restart()

    def restart(self) -> None:
        self.steps, self.train_seconds, self.own_seconds, self.data_seconds = 0, 0.0, 0.0, 0.0

    def compare(self, meter: ThroughputMeter) -> dict[str, Any]:
        """Return the entries of metrics.jsonl that need all ranks. All of them call it where a line is written."""
        if self.process_group.size == 1 or not meter.steps:
            return {}
        self.steps += meter.steps
        self.train_seconds += meter.train_seconds
        self.own_seconds += meter.own_seconds
        self.data_seconds += meter.lost[timings.DATA]
        table = torch.zeros(self.process_group.size, 3, dtype=torch.float64, device=self.device)
        table[self.process_group.rank] = torch.tensor(
            [self.own_seconds, self.data_seconds, peak_memory_gib(self.device)]
        )
        own, data, memory = self.process_group.all_reduce(table).T.tolist()
        slowest = max(range(len(own)), key=own.__getitem__)
        others = statistics.median(own[:slowest] + own[slowest + 1 :])
        if self.steps >= MIN_STEPS:
            is_slow = own[slowest] > SLOW_RATIO * others
            if is_slow and own[slowest] - others > MIN_SHARE * self.train_seconds:
                self._name(slowest, own[slowest], others, data[slowest])
            self.restart()
        return {
            timings.SLOWEST_RANK: slowest,
            timings.SLOWEST_RATIO: round(own[slowest] / max(1e-9, others), 3),
            timings.PEAK_MEMORY: round(max(memory), 3),
        }

    def _name(self, rank: int, own: float, others: float, data: float) -> None:
        """Print who is slow, unless it is known. All ranks come here together: they have the same table."""
        if rank in self.named:
            return
        self.named.add(rank)
        host = self.process_group.all_gather(platform.node())[rank]
        if self.process_group.is_rank_zero:
            own, others, data = (1000 * seconds / self.steps for seconds in (own, others, data))
            print(
                f"rank {rank} on {host} is slow: {own:.3g} ms a step for its own work, {data:.3g} ms of which it waits "
                f"for data; the median of the others is {others:.3g} ms, and they wait for it in each step",
                file=sys.stderr,
            )
