"""Single parts of a training step and of generation, in the order in which they are likely to be slow.

    python benchmarks/gpu.py --only probe

Each probe calls the package's own code. One that fails leaves the others.
"""

import collections
import operator
import statistics
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from decoding import GPT2
from lightning.fabric.utilities import move_data_to_device
from measuring import SEED, Part, milliseconds

from gptexp.config import schema
from gptexp.data.batch import Batch
from gptexp.distributed.devices import allow_cudnn_attention
from gptexp.distributed.hardware import GIB
from gptexp.generation.next_token import sample_next_token
from gptexp.loss import LossCounts
from gptexp.model import Transformer, TransformerConfig, token_loss
from gptexp.model.token_loss import ALIGNMENT
from gptexp.sampling import Sampling
from gptexp.training.compilation import compile_model
from gptexp.training.micro_batches import loss_inputs
from gptexp.training.muon import orthogonalize
from gptexp.training.optimizers import build_optimizers


class Probe:
    """The shapes and the device of all probes."""

    def __init__(self, part: Part) -> None:
        self.part, self.device = part, part.options.device
        is_toy = part.options.toy
        self.layers, self.width, self.vocabulary = (2, 64, 512) if is_toy else (12, 768, 50_257)
        self.batch, self.context = (2, 64) if is_toy else (32, 1024)
        self.repeats = 1 if is_toy else 10

    def model(self, preset: str = "gpt2", **changes: Any) -> Transformer:
        width, heads = self.width, max(1, self.width // 64)
        settings = {
            "vocab_size": self.vocabulary,
            "layers": self.layers,
            "d_model": width,
            "heads": heads,
            "kv_heads": heads,
            "d_ff": 4 * width if preset == "gpt2" else 8 * width // 3,
            "context": self.context,
            **(GPT2 if preset == "gpt2" else {}),
            **changes,
        }
        torch.manual_seed(SEED)
        with torch.device(self.device):
            return Transformer(TransformerConfig(**settings)).train()

    def tokens(self, batch: int, length: int) -> torch.Tensor:
        return torch.randint(self.vocabulary, (batch, length), device=self.device)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, cache_enabled=False)  # as Lightning's

    def time(self, function: Callable[[], Any], repeats: int | None = None) -> float:
        return milliseconds(function, self.device, repeats or self.repeats)


def main() -> None:
    part = Part(__doc__)
    probe = Probe(part)
    for measure in (
        probe_head_and_loss,
        probe_optimizers,
        probe_stacked_products,
        probe_new_lengths,
        probe_synchronisations,
        probe_sampling,
        probe_matrix_product,
    ):
        started = time.monotonic()
        try:
            for name, value, unit in measure(probe):
                part.report(name, value, unit)
        except Exception as error:
            traceback.print_exc()
            part.report(f"{measure.__name__} failed", repr(error)[:200])
        print(f"{measure.__name__}: {time.monotonic() - started:.1f} s", flush=True)
        if probe.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


Figures = Iterator[tuple[str, Any, str]]


def run_backward(
    probe: Probe, model: Transformer, tokens: torch.Tensor, prefix: torch.Tensor | None = None
) -> None:
    with probe.autocast():
        loss = model.loss(tokens, tokens, prefix=prefix).targets
    loss.backward()
    model.zero_grad()


def probe_head_and_loss(probe: Probe) -> Figures:
    """One block, the head and the loss, forward and backward: nearly all of it is the head and the loss."""
    default = token_loss.GPU_LOGITS
    try:
        yield from probe_chunks(probe, default[0])
    finally:
        token_loss.GPU_LOGITS = default


def probe_chunks(probe: Probe, default: int) -> Figures:
    """Vary the rows of the vocabulary, torch.compile, and the logits of a chunk."""
    tokens = probe.tokens(probe.batch, probe.context)
    aligned = -(-probe.vocabulary // ALIGNMENT) * ALIGNMENT
    for vocabulary, logits, is_compiled in (
        (probe.vocabulary, default, False),
        (probe.vocabulary, default, True),
        (aligned, default, False),
        *((probe.vocabulary, int(default * factor), False) for factor in (0.5, 2, 8)),
    ):
        model = probe.model(layers=1, vocab_size=vocabulary)
        if is_compiled and not probe.part.options.toy:
            compile_model(model, has_fixed_lengths=True)
        name = f"head and loss, {vocabulary:,} rows{', compiled' if is_compiled else ''}"
        if logits != default:
            name += f", chunks of {logits / 2**20:,.0f} Mi logits"
        token_loss.GPU_LOGITS = (logits, logits)
        if probe.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        yield name, probe.time(partial(run_backward, probe, model, tokens)), "ms"
        if probe.device == "cuda":
            yield f"{name}: peak memory", torch.cuda.max_memory_allocated() / GIB, "GiB"


def probe_optimizers(probe: Probe) -> Figures:
    """A step of each optimizer over all parameters, inside autocast as Lightning calls it."""
    sizes = {"124 M": {}}
    if not probe.part.options.toy:
        sizes["XL"] = {"layers": 48, "d_model": 1600, "heads": 25, "kv_heads": 25, "d_ff": 4272}
    for size, changes in sizes.items():
        for name, config in (
            ("AdamW", schema.AdamWConfig(kind="adamw", lr=1e-4)),
            ("Muon", schema.MuonConfig(kind="muon", lr=0.02, adamw_lr=1e-4)),
        ):
            model = probe.model("modern", **changes)
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            step = partial(step_optimizers, probe, build_optimizers(model, config))
            yield f"{size}: a step of {name}", probe.time(step), "ms"
            started = time.perf_counter()
            step()
            launch = 1000 * (time.perf_counter() - started)
            yield f"{size}: the host launches a step of {name} for", launch, "ms"


def step_optimizers(probe: Probe, optimizers: list[torch.optim.Optimizer]) -> None:
    with probe.autocast():
        for optimizer in optimizers:
            optimizer.step()


def probe_stacked_products(probe: Probe) -> Figures:
    """Ranks share out Muon's matrices: the numbers should not depend on how many are stacked."""
    matrices = torch.randn(12, probe.width, probe.width, device=probe.device)
    together = orthogonalize(matrices.clone(), torch.bfloat16)
    for size in (1, 2, 3, 5):
        parts = [orthogonalize(part.clone(), torch.bfloat16) for part in matrices.split(size)]
        difference = float((torch.cat(parts) - together).abs().max())
        yield f"Muon's iteration of {size} against 12 matrices: largest difference", difference, ""


def probe_new_lengths(probe: Probe) -> Figures:
    """Forward and backward of a block at lengths that were not seen before, and at the same again."""
    was_allowed = torch.backends.cuda.cudnn_sdp_enabled()
    allow_cudnn_attention(False)  # as a run does whose lengths vary
    try:
        for arch in ("decoder", "prefix"):
            model = probe.model("modern", layers=1, vocab_size=512, arch=arch)
            times = [
                time_new_length(probe, model, length)
                for length in range(probe.context // 2 + 1, probe.context // 2 + 7)
            ]
            first, again = zip(*times[1:], strict=True)  # the first one loads kernels
            more = statistics.median(map(operator.sub, first, again))
            yield f"{arch}: a length not seen before", statistics.median(first), "ms"
            yield f"{arch}: the same length again", statistics.median(again), "ms"
            yield f"{arch}: a length not seen before costs more by", more, "ms"
    finally:
        allow_cudnn_attention(was_allowed)


def time_new_length(probe: Probe, model: Transformer, length: int) -> tuple[float, float]:
    """Return the milliseconds of the first and of the second step with sequences of a length."""
    tokens = torch.randint(512, (16, length), device=probe.device)
    is_causal = model.config.arch == "decoder"
    prefix = None if is_causal else torch.full((16,), 5, device=probe.device)
    step = partial(run_backward, probe, model, tokens, prefix)
    first, again = (milliseconds(step, probe.device, repeats=1, warm_up=0) for _ in range(2))
    return first, again


def probe_synchronisations(probe: Probe) -> Figures:
    """Places where forward and backward of a micro-batch wait for the device."""
    if probe.device != "cuda":
        return
    model = probe.model("modern", layers=2)
    tokens = probe.tokens(4, probe.context).cpu()
    batch = Batch(tokens, tokens, LossCounts(tokens.numel(), 0, tokens.numel()))
    device = torch.device(probe.device)
    cut = [loss_inputs(model, micro_batch, device) for micro_batch in batch.split()]

    def step() -> None:
        for inputs in cut:
            with probe.autocast():
                loss = model.loss(**move_data_to_device(inputs, device)).mean(batch.counts)
            loss.backward()

    step()
    places: collections.Counter[str] = collections.Counter()

    def note(_message: Any, _category: Any, file: str, line: int, *_: Any) -> None:
        places[f"{Path(file).parent.name}/{Path(file).name}:{line}"] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    yield "host-device synchronisations in a micro-batch", sum(places.values()), ""
    for place, count in places.items():
        yield f"synchronisation at {place}", count, ""


def probe_sampling(probe: Probe) -> Figures:
    """Drawing a token for many rows."""
    rows = 4 if probe.part.options.toy else 128
    logits = torch.randn(rows, probe.vocabulary, device=probe.device)
    uniform, sampling = torch.rand(rows, device=probe.device), Sampling(temperature=0.8)
    yield (
        f"drawing a token for {rows} rows of {probe.vocabulary:,}",
        probe.time(lambda: sample_next_token(logits, sampling, uniform)),
        "ms",
    )


def probe_matrix_product(probe: Probe) -> Figures:
    """The speed of a large product in bf16, to compare cards by."""
    size = 256 if probe.part.options.toy else 8192
    one, other = (torch.randn(size, size, device=probe.device, dtype=torch.bfloat16) for _ in "ab")
    yield (
        f"product of {size} x {size} in bf16",
        2 * size**3 / probe.time(lambda: one @ other) / 1e9,
        "TFLOP/s",
    )


if __name__ == "__main__":
    main()
