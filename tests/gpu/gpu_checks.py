"""Checks of single computations on a GPU, all in one process; test_gpu_computations.py reports them one by one.

python tests/gpu/checks.py [cuda | cpu]     prints an object: the name of each check, and its error or null

A CPU runs them too, to see that they fit the package.
"""

import json
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from models import EXPERTS, KINDS, PROMPTS, a_model, generate

from gptexp.data.batch import Batch
from gptexp.loss import LossCounts
from gptexp.model import Transformer, token_loss
from gptexp.sampling import Sampling
from gptexp.training import muon

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
        times = []
        for length in range(300, 306):
            batch = batch_of(model, length=length)
            synchronize()
            started = time.perf_counter()
            with autocast():
                loss = loss_of(model, DEVICE, batch)
            loss.backward()
            synchronize()
            times.append(1000 * (time.perf_counter() - started))
        assert DEVICE == "cpu" or median(times[1:]) < 50, f"{switches}: {times} ms"


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


def check_a_micro_batch_waits_nowhere_for_the_device() -> None:
    model = a_model(context=64).train().to(DEVICE)
    batch = batch_of(model, length=64)
    with autocast():
        loss_of(model, DEVICE, batch).backward()  # compiles and allocates
        with errors_on_synchronisation():
            loss_of(model, DEVICE, batch).backward()


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
    (micro_batch,) = batch.to(torch.device(device)).split()
    return model.loss(**micro_batch.inputs()).mean(batch.counts)


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
