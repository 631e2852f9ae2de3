"""Measure training steps on this machine, in a process of its own, so that a lack of memory ends only that.

`python -m gptexp.planning.measure FOLDER` reads config.yaml and probes.json there and prints its measurements as JSON.
A model whose step takes too long is measured with fewer layers, and its time is extrapolated in the layers; where even
that takes too long, with a smaller width, and its time is extrapolated in the operations.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from gptexp.config.compose import load_config, save_config
from gptexp.config.schema import Config
from gptexp.errors import RunError
from gptexp.model.config import TransformerConfig
from gptexp.model.cost import count_flops, count_matrices, count_parameters
from gptexp.planning.device_memory import Placement, count_micro_batch
from gptexp.planning.workload import Workload
from gptexp.wording import first_line

if TYPE_CHECKING:
    import torch

PROBE_FLOPS = {
    "cpu": 4e11,
    "cuda": 2e14,
}  # of one micro-batch: a few seconds of a core, or of a GPU
PROBE_BYTES = {"cpu": 2 * 2**30, "cuda": 16 * 2**30}  # of weights, gradients and moments
STATE_BYTES = 16  # a parameter
MUON_ITERATIONS, UPDATE_FLOPS = 5, 20  # of a matrix, and of a parameter
PROBE_SECONDS = 3.0  # of measured repetitions, for each probe
MIN_REPETITIONS, MAX_REPETITIONS = 2, 20
SHORT_SEQUENCE, NARROW = 256, 256  # below which tokens and width are not reduced
TIMEOUT = 300.0


@dataclass(frozen=True)
class Probe:
    """A micro-batch of a model that is measured."""

    model: TransformerConfig
    sequences: int
    tokens: int
    source: int
    targets: int

    @property
    def flops(self) -> int:
        """Operations of the forward and the backward pass."""
        return count_flops(
            self.model, self.sequences, self.tokens, source=self.source, targets=self.targets
        ).training


@dataclass(frozen=True)
class Measurement:
    """Seconds of a micro-batch and of an update, and the bytes that a process has taken for them at most.

    Seconds are those of the clock, and of all processors together (cpu).
    """

    micro_batch: float
    update: float
    cpu_of_micro_batch: float
    cpu_of_update: float
    peak_bytes: int


@dataclass(frozen=True)
class Speed:
    """The time of an optimizer step on this machine.

    peak_bytes: measured; None where a smaller model was measured. description: what was measured.
    """

    device: str
    step_seconds: float
    step_cpu_seconds: float
    flops_per_second: float
    peak_bytes: int | None
    description: str


def measure_speed(config: Config, workload: Workload, device: str) -> Speed:
    """Measure steps of a run, or of a smaller model of its kind, in a process of its own.

    Args:
        device: cpu or cuda.

    Raises:
        RunError: the process failed, for lack of memory for instance.
    """
    placement = Placement.of(config.trainer)
    size = count_micro_batch(config.trainer, placement, workload, device == "cuda")
    planned = _probe(workload, size, workload.tokens)
    optimizer = config.optim.kind
    probes = choose_probes(workload, planned, device, optimizer)
    started = time.perf_counter()
    measurements = _measure_in_process(config, probes, accumulates=size < placement.sequences)
    seconds = time.perf_counter() - started
    measured, probe = measurements[-1], probes[-1]
    if len(probes) == 2:
        measured = _extrapolate(probes, measurements, workload.model.layers)
        probe = replace(probe, model=workload.model)
    micro_batches = placement.sequences / size
    scale = count_update_flops(planned.model, optimizer) / count_update_flops(
        probe.model, optimizer
    )
    batches = micro_batches * planned.flops / probe.flops
    step = batches * measured.micro_batch + scale * measured.update
    return Speed(
        device,
        step,
        batches * measured.cpu_of_micro_batch + scale * measured.cpu_of_update,
        workload.step_flops().training / placement.devices / step,
        measured.peak_bytes if probes == [planned] else None,
        f"{_describe(probes, planned)}, {seconds:.0f} s",
    )


def _extrapolate(
    probes: Sequence[Probe], measurements: Sequence[Measurement], layers: int
) -> Measurement:
    """Return the times of a model with `layers`, on the line through those of two probes with fewer."""
    first, second = measurements
    few, more = (probe.model.layers for probe in probes)
    factor = (layers - few) / (more - few)

    def extend(before: float, after: float) -> float:
        return before + factor * max(0.0, after - before)

    return Measurement(
        extend(first.micro_batch, second.micro_batch),
        extend(first.update, second.update),
        extend(first.cpu_of_micro_batch, second.cpu_of_micro_batch),
        extend(first.cpu_of_update, second.cpu_of_update),
        second.peak_bytes,
    )


def choose_probes(workload: Workload, planned: Probe, device: str, optimizer: str) -> list[Probe]:
    """Return the run's own micro-batch, or one or two smaller probes that take a few seconds."""

    def is_short(probe: Probe) -> bool:
        bytes_of_states = STATE_BYTES * count_parameters(probe.model)
        flops = max(probe.flops, count_update_flops(probe.model, optimizer) / 2)
        return flops <= PROBE_FLOPS[device] and bytes_of_states <= PROBE_BYTES[device]

    probe = planned
    while not is_short(probe) and probe.sequences > 1:
        probe = _probe(workload, probe.sequences // 2, workload.tokens)
    if is_short(probe):
        return [probe]
    fewer = [replace(probe, model=replace(probe.model, layers=layers)) for layers in (1, 3)]
    if workload.model.layers > 3 and is_short(fewer[1]):
        return fewer
    probe = fewer[0]
    while not is_short(probe):
        model = probe.model
        if probe.tokens > SHORT_SEQUENCE:
            probe = replace(_probe(workload, 1, probe.tokens // 2), model=model)
        elif model.d_model > NARROW:
            probe = replace(probe, model=_halve_width(model))
        else:
            break
    return [probe]


def count_update_flops(model: TransformerConfig, optimizer: str) -> int:
    """Count the operations of an update, about: some for each parameter, and for Muon those of its iterations."""
    flops = UPDATE_FLOPS * count_parameters(model)
    if optimizer == "muon":
        for (rows, columns), count in count_matrices(model).items():
            short, long = sorted((rows, columns))
            flops += count * MUON_ITERATIONS * (4 * short**2 * long + 2 * short**3)
    return flops


def _probe(workload: Workload, sequences: int, tokens: int) -> Probe:
    share = tokens / workload.tokens
    return Probe(
        workload.model,
        sequences,
        tokens,
        max(1, round(share * workload.source)) if workload.source else 0,
        min(sequences * tokens, round(sequences * share * workload.targets)),
    )


def _halve_width(model: TransformerConfig) -> TransformerConfig:
    """Return a model of half the width, with half the heads where they divide."""
    heads = max(1, model.heads // 2)
    kv_heads = math.gcd(heads, model.kv_heads)
    return replace(
        model,
        d_model=model.d_model // 2,
        heads=heads,
        kv_heads=kv_heads,
        d_ff=max(1, model.d_ff // 2),
    )


def _describe(probes: list[Probe], planned: Probe) -> str:
    """Describe for people what is measured."""
    probe = probes[-1]
    shape = f"{probe.sequences} x {probe.tokens + probe.source} tokens"
    if probes == [planned]:
        return f"steps of this model on {shape}"
    if len(probes) == 2:
        layers = (
            f"{probes[0].model.layers} and {probe.model.layers} of {planned.model.layers} layers"
        )
        return f"steps with {layers} on {shape}, extrapolated in the layers"
    if probe.model == planned.model:
        return f"steps of this model on {shape}, extrapolated in the sequences"
    return (
        f"steps with {probe.model.layers} of {planned.model.layers} layers and width {probe.model.d_model} of "
        f"{planned.model.d_model} on {shape}, extrapolated in the operations"
    )


def _measure_in_process(
    config: Config, probes: list[Probe], *, accumulates: bool
) -> list[Measurement]:
    """Measure probes in another process, with two micro-batches a step where gradients are accumulated."""
    with tempfile.TemporaryDirectory() as folder:
        save_config(config, Path(folder) / "config.yaml")
        values = {"probes": [asdict(probe) for probe in probes], "accumulates": accumulates}
        (Path(folder) / "probes.json").write_text(json.dumps(values))
        command = [sys.executable, "-m", "gptexp.planning.measure", folder]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise RunError(
                f"steps were not measured: they took more than {TIMEOUT:.0f} s"
            ) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        reason = first_line(Exception(lines[-1])) if lines else f"exit code {done.returncode}"
        raise RunError(f"steps were not measured: {reason}")
    return [Measurement(**entry) for entry in json.loads(done.stdout.splitlines()[-1])]


def main() -> None:
    from gptexp.distributed.devices import pick_device
    from gptexp.machine import keep_freed_memory

    folder = Path(sys.argv[1])
    config = load_config(folder / "config.yaml")
    device = pick_device(config.trainer.accelerator)
    if device.type == "cpu":
        keep_freed_memory()
    values = json.loads((folder / "probes.json").read_text())
    count, probes = 1 + values["accumulates"], []
    for entry in values["probes"]:
        model = entry.pop("model")
        model["rope_scaling"] = tuple(map(tuple, model["rope_scaling"]))
        probes.append(Probe(TransformerConfig(**model), **entry))
    _measure(config, _shrink(probes[0]), device, count)  # imports what a first step does
    measurements = [_measure(config, probe, device, count) for probe in probes]
    print(json.dumps([asdict(measurement) for measurement in measurements]))


def _shrink(probe: Probe) -> Probe:
    """Return a probe of the same kind that takes almost no time and memory."""
    heads = probe.model.heads // probe.model.kv_heads
    model = replace(probe.model, layers=1, d_model=32, heads=heads, kv_heads=1, head_dim=8, d_ff=32)
    return Probe(model, 1, min(probe.tokens, 8), min(probe.source, 8), min(probe.targets, 4))


def _measure(
    config: Config, probe: Probe, device: "torch.device", micro_batches: int = 1
) -> Measurement:
    """Train on random tokens in this process: one step to warm up, then a few that are measured."""
    import torch

    from gptexp.checkpoints.load_model import add_lora
    from gptexp.distributed.devices import autocast
    from gptexp.distributed.sharding import clip_grad_norm
    from gptexp.loss import LossCounts
    from gptexp.model import Transformer
    from gptexp.model.activation_checkpointing import checkpoint_activations
    from gptexp.training.optimizers import build_optimizers

    before = _used_bytes(device)
    torch.manual_seed(config.seed)
    model = Transformer(probe.model).to(device).train()
    checkpoint_activations(model, config.trainer.activation_checkpointing)
    add_lora(model, config.optim)
    optimizers = build_optimizers(model, config.optim)
    inputs = {name: value.to(device) for name, value in _random_inputs(probe).items()}
    counts = LossCounts(targets=max(1, probe.targets), labels=probe.sequences, tokens=1)

    def accumulate() -> None:
        for _ in range(micro_batches):
            with autocast(config.trainer.precision, device):
                loss = model.loss(**inputs).mean(counts)
            loss.backward()
            loss.item()

    def update() -> None:
        clip_grad_norm(model.parameters(), config.optim.grad_clip).item()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()

    accumulate()
    update()
    accumulating, updating, *cpu = _repeat(accumulate, update)
    return Measurement(
        accumulating / micro_batches,
        updating,
        cpu[0] / micro_batches,
        cpu[1],
        _used_bytes(device) - before,
    )


def _repeat(first: Callable[[], None], second: Callable[[], None]) -> list[float]:
    """Return the median seconds of each of both in turn, then their median CPU seconds."""
    rows: list[tuple[float, ...]] = []
    started = time.perf_counter()
    while len(rows) < MAX_REPETITIONS:
        if len(rows) >= MIN_REPETITIONS and time.perf_counter() - started > PROBE_SECONDS:
            break
        clocks = [(time.perf_counter(), time.process_time())]
        for part in (first, second):
            part()
            clocks.append((time.perf_counter(), time.process_time()))
        (start, cpu_start), (middle, cpu_middle), (end, cpu_end) = clocks
        rows.append((middle - start, end - middle, cpu_middle - cpu_start, cpu_end - cpu_middle))
    return [median(column) for column in zip(*rows, strict=True)]


def _random_inputs(probe: Probe) -> dict[str, Any]:
    """Return the arguments of Transformer.loss for random tokens."""
    import torch

    config, sequences = probe.model, probe.sequences
    length = probe.tokens + (probe.source - 1 if probe.source else 0)
    tokens = torch.randint(config.vocab_size, (sequences, length))
    outputs = config.num_token_classes or config.vocab_size
    targets = torch.randint(outputs, (sequences, length))
    each = min(length, -(-probe.targets // sequences))
    targets[:, : length - each] = -100  # IGNORE of data/batch.py
    inputs = {"tokens": tokens, "targets": targets}
    if probe.source or config.arch == "prefix":
        prefix = probe.source or max(1, length - each)
        inputs["prefix"] = torch.full((sequences,), prefix)
    if config.num_sequence_classes:
        inputs["labels"] = torch.zeros(sequences, dtype=torch.long)
        inputs["prefix"] = torch.full((sequences,), length // 2)
        inputs["lengths"] = torch.full((sequences,), length)
    return inputs


def _used_bytes(device: "torch.device") -> int:
    """Return the peak of memory; Linux's ru_maxrss begins with that of the process that started this one."""
    status = Path("/proc/self/status")
    if device.type == "cpu" and status.is_file():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(peak.split()[1])
    from gptexp.distributed.hardware import GIB, peak_memory_gib

    return round(peak_memory_gib(device) * GIB)


if __name__ == "__main__":
    main()
