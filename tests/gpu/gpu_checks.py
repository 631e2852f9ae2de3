"""Checks of single computations on a GPU, all in one process; test_gpu_computations.py reports them one by one.

python tests/gpu/gpu_checks.py     prints an object: the name of each check, and its error or null

test_gpu_computations.py runs them on a CPU too, to see that they fit the package.
"""

import json
import sys
import time
import traceback
import warnings
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from unittest import mock

import torch
from lightning.fabric.utilities import move_data_to_device

sys.path.insert(0, str(Path(__file__).parents[1]))

from models import EXPERTS, KINDS, PROMPTS, a_model, generate

from gptexp.data.batch import Batch
from gptexp.distributed.devices import allow_cudnn_attention
from gptexp.generation.cuda_graphs import CudaGraphs
from gptexp.generation.generator import Generator
from gptexp.generation.prompt import Prompt
from gptexp.loss import LossCounts
from gptexp.model import Transformer, token_loss
from gptexp.sampling import Sampling
from gptexp.training import muon
from gptexp.training.micro_batches import loss_inputs

DEVICE = "cuda"
VOCABULARY = 50_257
TOKENS = 32_768
GIB = 2**30


def check_muon_iterates_in_bf16_under_autocast() -> None:
    types, plain = set(), torch.baddbmm

    def baddbmm(x: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
        types.add(x.dtype)
        return plain(x, *arguments, **options)

    weights = [torch.nn.Parameter(torch.randn(64, 32, device=DEVICE)) for _ in range(3)]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    optimizer = muon.Muon(weights, lr=0.02, momentum=0.95, weight_decay=0.1, dtype=torch.bfloat16)
    with mock.patch.object(torch, "baddbmm", baddbmm), autocast():
        optimizer.step()
    assert types == {torch.bfloat16}, types


def check_loss_and_gradients_are_those_of_the_cpu() -> None:
    for switches in (*KINDS, EXPERTS):
        ours, reference = a_model(**switches).train().to(DEVICE), a_model(**switches).train()
        for model, device in ((ours, DEVICE), (reference, "cpu")):
            loss_of(model, device, batch_of(model)).backward()
        for (name, parameter), other in zip(
            ours.named_parameters(), reference.parameters(), strict=True
        ):
            if other.grad is not None:
                close(parameter.grad, other.grad, 1e-3, f"{switches}: {name}")


def check_a_large_vocabulary_in_chunks_is_that_of_one_chunk() -> None:
    gradients = []
    for limit in (1 << 40, 1 << 22):
        model = a_model(vocab_size=VOCABULARY).train().to(DEVICE)
        with mock.patch.object(token_loss, "GPU_LOGITS", (limit, limit)), autocast():
            loss = loss_of(model, DEVICE, batch_of(model, rows=16))
        loss.backward()
        gradients.append([loss.detach(), *(p.grad for p in model.parameters())])
    for one, other in zip(*gradients, strict=True):
        close(one, other, 2e-2, "gradients in chunks")


def check_the_logits_of_a_large_batch_take_little_memory() -> None:
    if DEVICE == "cpu":
        return
    model = a_model(vocab_size=VOCABULARY, d_model=256, context=1024, layers=1).train().to(DEVICE)
    tokens = torch.randint(VOCABULARY, (TOKENS // 1024, 1024), device=DEVICE)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with autocast():
        loss = model.loss(tokens, tokens).targets
    loss.backward()
    used = (torch.cuda.max_memory_allocated() - before) / GIB
    in_full = 3 * 4 * TOKENS * VOCABULARY / GIB  # logits, log-softmax and gradient in fp32
    assert used < in_full / 3, f"{used:.1f} GiB; in full {in_full:.1f} GiB"


def check_a_length_not_seen_before_costs_little() -> None:
    """cuDNN's attention plans for each shape, which takes 100 ms, and more than 1,000 ms with a mask."""
    for switches in ({}, {"arch": "prefix"}):
        model = a_model(context=512, d_model=128, **switches).train().to(DEVICE)
        with without_cudnn_attention():  # as in a run whose lengths vary
            times = [
                [time_step(model, batch) for _ in range(2)]
                for batch in (batch_of(model, length=length) for length in range(300, 306))
            ]
        more = median(first - again for first, again in times[1:])
        assert DEVICE == "cpu" or more < 50, f"{switches}: {times} ms"


def check_generation_takes_the_tokens_of_the_cpu() -> None:
    for switches in KINDS:
        reference, ours = a_model(**switches), a_model(**switches).to(DEVICE)
        for sampling in (
            Sampling(),
            Sampling(temperature=0.9, seed=3),
            Sampling(temperature=1.2, top_k=10, top_p=0.9, seed=3),
            Sampling(no_repeat_ngram=2, repetition_penalty=1.2),
            Sampling(num_beams=3),
        ):
            for prompts in (PROMPTS, PROMPTS[:1], PROMPTS * 3):
                expected = generate(reference, prompts, 8, eos=4, sampling=sampling)
                answers = generate(ours, prompts, 8, eos=4, sampling=sampling)
                assert answers == expected, (switches, sampling, answers, expected)


def check_tokens_of_an_answer_wait_nowhere_for_the_device() -> None:
    for sampling in (Sampling(), Sampling(temperature=0.9, top_k=5), Sampling(no_repeat_ngram=2)):
        generator = Generator(a_model().to(DEVICE), eos=4)
        for is_first in (True, False):  # the first call prepares kernels and records graphs
            steps = generator.stream([Prompt(tuple(row)) for row in PROMPTS], 12, sampling)
            next(steps)  # the prompts
            with nullcontext() if is_first else errors_on_synchronisation():
                list(steps)


def check_generation_replays_graphs() -> None:
    generator = Generator(a_model().to(DEVICE), eos=-1)
    prompts = [Prompt(tuple(row)) for row in PROMPTS]
    first = generator.generate(prompts, 12)
    before = torch.cuda.memory_allocated() if DEVICE == "cuda" else 0
    for _ in range(5):
        assert generator.generate(prompts, 12) == first
    if DEVICE == "cuda":
        graphs = generator._decoder._batch.graphs
        assert graphs.is_on
        assert graphs._recorded
        assert torch.cuda.memory_allocated() == before


def check_a_recording_that_fails_leaves_a_warning_and_the_result() -> None:
    x = torch.ones(4, device=DEVICE)

    def wait() -> torch.Tensor:
        return torch.full_like(x, x.sum().item())

    graphs = CudaGraphs(torch.device(DEVICE), "a check")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = [graphs.run("sum", wait).clone() for _ in range(3)]
    assert all(result.tolist() == [4.0] * 4 for result in results)
    messages = [str(warning.message) for warning in caught]
    assert DEVICE == "cpu" or any("without CUDA graphs" in text for text in messages), messages
    torch.manual_seed(1)  # dropout still works, and follows its seed
    first = torch.nn.functional.dropout(x.repeat(100), 0.5)
    torch.manual_seed(1)
    assert torch.equal(torch.nn.functional.dropout(x.repeat(100), 0.5), first)


def check_a_micro_batch_waits_nowhere_for_the_device() -> None:
    for switches in ({}, {"arch": "prefix"}, {"arch": "encoder_decoder"}):
        model = a_model(context=64, **switches).train().to(DEVICE)
        batch = batch_of(model, length=64)
        (micro_batch,) = batch.split()
        with autocast():
            loss_of(model, DEVICE, batch).backward()  # prepares kernels and memory
            inputs = loss_inputs(model, micro_batch, torch.device(DEVICE))
            with errors_on_synchronisation():
                inputs = move_data_to_device(inputs, torch.device(DEVICE))
                model.loss(**inputs).mean(batch.counts).backward()


@contextmanager
def errors_on_synchronisation():
    if DEVICE == "cpu":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextmanager
def without_cudnn_attention():
    was_allowed = torch.backends.cuda.cudnn_sdp_enabled()
    allow_cudnn_attention(False)
    try:
        yield
    finally:
        allow_cudnn_attention(was_allowed)


def time_step(model: Transformer, batch: Batch) -> float:
    """Return the milliseconds of forward and backward pass."""
    synchronize()
    started = time.perf_counter()
    with autocast():
        loss = loss_of(model, DEVICE, batch)
    loss.backward()
    synchronize()
    return 1000 * (time.perf_counter() - started)


def autocast() -> torch.autocast:
    return torch.autocast(DEVICE, torch.bfloat16, cache_enabled=False)  # as Lightning's


def synchronize() -> None:
    if DEVICE != "cpu":
        torch.cuda.synchronize()


def batch_of(model: Transformer, rows: int = 4, length: int = 20) -> Batch:
    """Sequences of different lengths, on the CPU; the first third of each is its prompt."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(model.config.vocab_size, (rows, length), generator=generator)
    is_causal = model.config.arch == "decoder"
    lengths = torch.tensor([length - row % 3 for row in range(rows)])
    prefix = None if is_causal else lengths // 3
    targets = tokens.roll(-1, dims=1)
    positions = torch.arange(length)
    targets[positions >= lengths[:, None]] = -100
    if prefix is not None:
        targets[positions < prefix[:, None] - 1] = -100
    count = int((targets >= 0).sum())
    counts = LossCounts(count, 0, int(lengths.sum()))
    return Batch(tokens, targets, counts, lengths=lengths, prefix=prefix)


def loss_of(model: Transformer, device: str, batch: Batch) -> torch.Tensor:
    """Compute the loss of a batch as a training step does: cut and indexed on the CPU, then moved."""
    (micro_batch,) = batch.split()
    inputs = loss_inputs(model, micro_batch, torch.device(device))
    return model.loss(**move_data_to_device(inputs, torch.device(device))).mean(batch.counts)


def close(one: torch.Tensor, other: torch.Tensor, tolerance: float, name: str) -> None:
    """Compare relative to the largest number: single small ones are sums of large ones."""
    one, other = one.detach().float().cpu(), other.detach().float().cpu()
    difference = float((one - other).abs().max() / other.abs().max().clamp(min=1e-6))
    assert difference < tolerance, f"{name}: relative difference {difference:.2g}"


CHECKS = {name: check for name, check in globals().items() if name.startswith("check_")}


def run(name: str) -> str | None:
    """Return the traceback of a check that fails."""
    try:
        CHECKS[name]()
    except Exception:
        return traceback.format_exc()
    return None


if __name__ == "__main__":
    print(json.dumps({name: run(name) for name in CHECKS}))
