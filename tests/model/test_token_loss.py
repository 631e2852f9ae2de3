"""Head and loss in chunks of tokens: the numbers of one chunk, in less memory."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from costed_models import peak
from models import GPT2, SHAPE, a_model
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from gptexp.config.schema import TrainerConfig
from gptexp.distributed.sharding import full_tensor
from gptexp.distributed.strategies import shard_model
from gptexp.model import Transformer, TransformerConfig, token_loss
from gptexp.model.token_loss import Head, compute_log_probs, count_chunk_rows

TOKENS = torch.randint(50, (3, 11), generator=torch.Generator().manual_seed(0))
TARGETS = TOKENS.roll(-1, 1).masked_fill(TOKENS < 9, -100)


@pytest.fixture
def in_chunks(monkeypatch):
    """Logits of 4 of the 29 or so targets at a time."""
    return lambda: monkeypatch.setattr(token_loss, "CPU_LOGITS", (200, 200))


class Scaled(Transformer):
    """Its loss has a parameter, and its head is not a Head."""

    def __init__(self, config):
        super().__init__(config)
        self.scale = nn.Parameter(torch.ones(()))
        self.head = nn.Sequential(nn.Linear(config.d_model, 8), nn.Linear(8, config.vocab_size))

    def token_loss(self, logits, targets):
        return (
            F.cross_entropy(logits * self.scale, targets, reduction="sum", label_smoothing=0.1)
            + targets.sum()
        )


def a_scaled_model():
    torch.manual_seed(0)
    return Scaled(TransformerConfig(**{**SHAPE, "tie_embeddings": False}))


def a_model_with_a_frozen_head():
    model = a_model(tie_embeddings=False)
    model.head.requires_grad_(False)
    return model


MAKERS = {
    "tied": a_model,
    "gpt2 dropout": lambda: a_model(**GPT2, tie_embeddings=False, dropout=0.1),
    "encoder_decoder": lambda: a_model(arch="encoder_decoder"),
    "tags": lambda: a_model(arch="encoder", num_token_classes=60),
    "a head and a loss of its own": a_scaled_model,
    "a frozen head": a_model_with_a_frozen_head,
}


def step(model, scale=1.0):
    """The loss of one pass, and the gradients."""
    torch.manual_seed(1)
    prefix = torch.tensor([3, 5, 2]) if model.encoder else None
    loss = model.loss(TOKENS, TARGETS, prefix=prefix).targets
    (loss * scale).backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_chunks_have_the_loss_and_the_gradients_of_all_tokens(make, bf16, in_chunks):
    results, tolerance = [], 2e-2 if bf16 else 1e-5
    for prepare in (lambda: None, in_chunks):
        prepare()
        model = make().train()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            results.append(step(model, 0.25))
    (loss, gradients), (chunked_loss, chunked) = results
    torch.testing.assert_close(chunked_loss, loss, rtol=1e-5, atol=0)
    for name, gradient in gradients.items():
        if gradient is None:
            assert chunked[name] is None
            continue
        assert chunked[name].dtype == gradient.dtype
        difference = (chunked[name] - gradient).norm()
        assert difference <= tolerance * gradient.norm(), name


def test_chunks_without_gradients(in_chunks):
    model = a_model()
    with torch.no_grad():
        expected = model.loss(TOKENS, TARGETS).targets
        in_chunks()
        chunked = model.loss(TOKENS, TARGETS).targets
    torch.testing.assert_close(chunked, expected)


def test_log_probabilities_in_chunks_have_the_gradients_of_all_tokens(in_chunks):
    weights = torch.tensor([1.0, -2.0, 0.5])  # of the rows, as a loss of pairs has them
    results = []
    for prepare in (lambda: None, in_chunks):
        prepare()
        model = a_model()
        log_probs = compute_log_probs(model, TOKENS, TARGETS)
        (weights @ log_probs).backward()
        results.append((log_probs.detach(), model.embedding.weight.grad))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)
    total = a_model().loss(TOKENS, TARGETS).targets.detach()
    torch.testing.assert_close(-results[0][0].sum(), total)


def test_small_vocabularies_have_one_chunk_and_large_ones_many_short_ones():
    assert count_chunk_rows(1 << 14, 4096, on_gpu=False) == 1 << 14
    assert count_chunk_rows(2048, 50257, on_gpu=False) == 256
    assert count_chunk_rows(32768, 50257, on_gpu=True) == 4096
    assert count_chunk_rows(10, 1 << 30, on_gpu=True) == 1


def test_a_large_vocabulary_takes_a_third_of_the_memory(monkeypatch):
    def measure():
        model = a_model(vocab_size=5000, layers=1)
        tokens = torch.randint(5000, (40, 24))
        return peak(lambda: lambda: model.loss(tokens, tokens).targets.backward(), 1)

    monkeypatch.setattr(token_loss, "CPU_LOGITS", (1 << 20, 1 << 18))
    chunked = measure()
    monkeypatch.setattr(token_loss, "CPU_LOGITS", (1 << 40, 1 << 40))
    assert chunked < measure() / 3


@pytest.mark.parametrize("rows", [4, 100], ids=["chunks", "one chunk"])
def test_on_a_gpu_the_weight_has_aligned_rows_in_16_bits_only(rows, monkeypatch):
    shapes = []
    linear = F.linear

    def note(x, weight, bias=None):
        shapes.append(tuple(weight.shape))
        return linear(x, weight, bias)

    monkeypatch.setattr(F, "linear", note)
    monkeypatch.setattr(token_loss, "CPU_LOGITS", (50 * rows, 50 * rows))
    results = []
    for devices in ((), ("cpu",)):
        monkeypatch.setattr(token_loss, "ALIGNED_DEVICES", devices)
        with torch.autocast("cpu", torch.bfloat16):
            results.append(step(a_model(tie_embeddings=False)))
        assert shapes[-1] == ((64, 32) if devices else (50, 32))
    (loss, gradients), (padded_loss, padded) = results
    torch.testing.assert_close(padded_loss, loss, rtol=1e-3, atol=0)
    assert padded["head.weight"].shape == (50, 32)
    for name, gradient in gradients.items():
        assert (padded[name] - gradient).norm() <= 2e-2 * gradient.norm(), name
    head = Head(32, 50)
    assert head(torch.randn(2, 3, 32)).shape == (2, 3, 50)
    assert shapes[-1] == (50, 32)  # in fp32


def train_on_rank(rank, file, folder):
    """One of two ranks computes a part of the batch in chunks, under DDP and under FSDP2."""
    torch.set_num_threads(1)  # those of the parent do not survive a fork
    dist.init_process_group("gloo", f"file://{file}", rank=rank, world_size=2)
    token_loss.CPU_LOGITS = (200, 200)
    rows = slice(rank, 3, 2)  # two sequences, and one
    for strategy in ("ddp", "fsdp"):
        model = a_model()
        if strategy == "ddp":
            parallel = DistributedDataParallel(_Loss(model))
            (2 * parallel(TOKENS[rows], TARGETS[rows])).backward()
        else:
            mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("data_parallel",))
            shard_model(model, mesh, TrainerConfig(strategy="fsdp"))
            (2 * model.loss(TOKENS[rows], TARGETS[rows]).targets).backward()
        gradients = [full_tensor(parameter.grad) for parameter in model.parameters()]
        torch.save(gradients, folder / f"{strategy}-{rank}.pt")
    dist.barrier()
    os._exit(0)


class _Loss(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens, targets):
        return self.model.loss(tokens, targets).targets


def test_ranks_add_up_gradients_that_were_computed_in_chunks(tmp_path):
    mp.start_processes(train_on_rank, (tmp_path / "store", tmp_path), 2, start_method="fork")
    model = a_model()
    model.loss(TOKENS, TARGETS).targets.backward()
    for file in ("ddp-0", "ddp-1", "fsdp-0", "fsdp-1"):
        for gradient, parameter in zip(
            torch.load(tmp_path / f"{file}.pt"), model.parameters(), strict=True
        ):
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-4)
