"""The speed of training: what the recorder measures between two lines of metrics.jsonl.

Times are those of the host's clock, and nothing waits for the device: a training step ends in a sum over the ranks
that the host reads, so that the mean over several steps is right on a GPU too.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gptexp.config.schema import Config
from gptexp.distributed.compiler import compile_seconds, count_compiled_graphs
from gptexp.distributed.hardware import peak_bf16_flops, peak_memory_gib
from gptexp.loss import LossCounts
from gptexp.model import Transformer
from gptexp.model.config import TransformerConfig
from gptexp.model.cost import count_flops
from gptexp.runs import timings

WARM_UP_STEPS = 3  # the first steps of a process are slow: speed and remaining time leave them out


class ThroughputMeter:
    """Measures the steps since the last line.

    Args:
        sequences: that a step computes.
        config: of the model; None: its operations are not counted.
        device, ranks: the operations are shared out equally.
    """

    def __init__(
        self, sequences: int, config: TransformerConfig | None, device: torch.device, ranks: int
    ) -> None:
        self.sequences, self.config, self.device, self.ranks = sequences, config, device, ranks
        self.peak = peak_bf16_flops(device)
        self.is_warm = False
        self.wait_started = 0.0
        self.step_started = 0.0
        self.compile_seconds = compile_seconds()  # until the last step or block that was measured
        self.restart()

    def restart(self) -> None:
        """Begin to measure anew."""
        self.started = time.perf_counter()
        self.steps, self.train_seconds, self.own_seconds = 0, 0.0, 0.0
        self.counts = LossCounts()
        self.lost: defaultdict[str, float] = defaultdict(float)  # seconds by the name of the share

    def wait_for_batch(self) -> None:
        """Note that the loop asks for the next batch."""
        if not self.is_warm and self.steps == WARM_UP_STEPS:
            self.is_warm = True
            self.restart()
        self.wait_started = time.perf_counter()

    def start_step(self) -> None:
        """Note that the batch is there."""
        self.step_started = time.perf_counter()
        self.lost[timings.DATA] += self.step_started - self.wait_started

    def end_step(self, counts: LossCounts, exchange_seconds: float = 0.0) -> float:
        """Count a step and its global batch; return its seconds, the wait for its batch included.

        The speed leaves out the time in torch.compile, but the seconds that are returned do not.

        Args:
            exchange_seconds: the part of the step in which the ranks wait for each other.
        """
        seconds = time.perf_counter() - self.wait_started
        computing = seconds - self._take_compile_seconds()
        self.steps += 1
        self.train_seconds += computing
        self.own_seconds += computing - exchange_seconds
        self.counts = self.counts.plus(counts)
        return seconds

    @contextmanager
    def measure(self, share: str) -> Iterator[None]:
        """Count the time of the block as lost to validation or checkpoints."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.lost[share] += time.perf_counter() - started - self._take_compile_seconds()

    @contextmanager
    def exclude(self) -> Iterator[None]:
        """Leave the time of the block out of all measurements."""
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            self.started += seconds
            self.wait_started += seconds

    def read(self) -> dict[str, Any]:
        """Return the entries of metrics.jsonl, and begin to measure anew."""
        row: dict[str, Any] = {}
        if self.steps:
            row[timings.TOKENS_PER_SECOND] = round(self.counts.tokens / self.train_seconds, 1)
            row[timings.STEP_MS] = _round(1000 * self.train_seconds / self.steps)
            if flops := self._count_flops():
                speed = flops / self.train_seconds / self.ranks
                row[timings.TFLOPS] = _round(speed / 1e12)
                if self.peak:
                    row[timings.MFU] = _round(speed / self.peak)
        row[timings.PEAK_MEMORY] = _round(peak_memory_gib(self.device))
        total = time.perf_counter() - self.started
        row |= {name: _round(self.lost[name] / total) for name in timings.SHARES}
        if graphs := count_compiled_graphs():
            row[timings.COMPILE_SECONDS] = _round(self.compile_seconds)
            row[timings.COMPILED_GRAPHS] = graphs
        self.is_warm = True
        self.restart()
        return row

    def _take_compile_seconds(self) -> float:
        """Return the time in torch.compile since the call before, and count it as lost."""
        before, self.compile_seconds = self.compile_seconds, compile_seconds()
        seconds = self.compile_seconds - before
        self.lost[timings.COMPILATION] += seconds
        return seconds

    def _count_flops(self) -> int:
        """Count the model's operations for the tokens, padding aside, as if all sequences had the mean length."""
        if self.config is None:
            return 0
        return count_training_flops(self.config, self.steps * self.sequences, self.counts)


def countable_config(model: Transformer) -> TransformerConfig | None:
    """Return the config of a model whose operations are counted; None: model/cost.py does not describe its training.

    It counts no features, and the gradients of all weights: LoRA does not compute those of the frozen ones.
    """
    has_all_gradients = all(parameter.requires_grad for parameter in model.parameters())
    return model.config if has_all_gradients and not model.config.feature_size else None


def count_step_sequences(config: Config) -> int:
    """Count the sequences that a step computes: two for each pair of answers."""
    return config.trainer.global_batch_size * config.task.rows_per_example


def count_training_flops(config: TransformerConfig, sequences: int, counts: LossCounts) -> int:
    """Count the operations of forward and backward passes over `sequences` with these counts in all.

    The head is applied to the targets alone. An encoder reads the tokens that are no targets. A data set may count
    several sequences as one: a mean length beyond the context is counted as the context.
    """
    if config.feature_size or not counts.tokens:
        return 0
    source = 0
    tokens = counts.tokens
    if config.arch == "encoder_decoder":
        source = min(config.context, max(1, round((tokens - counts.targets) / sequences)))
        tokens = counts.targets
    length = min(config.context, max(1, round(tokens / sequences)))
    batch = max(1, round(tokens / length))  # so that the operations of a token are exact
    targets = min(counts.targets, batch * length)
    return count_flops(config, batch, length, source=source, targets=targets).training


def _round(value: float) -> float:
    """Round to four digits."""
    return float(f"{value:.4g}")
