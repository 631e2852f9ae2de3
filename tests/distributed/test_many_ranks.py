"""Ranks beyond those of a machine: what each holds, and that all call the same collectives in the same order."""

import math
import os
from collections import Counter

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

from gptexp.config.schema import MuonConfig, TrainerConfig
from gptexp.distributed.process_group import ProcessGroup
from gptexp.distributed.sharding import (
    clip_grad_norm,
    collect_shard,
    full_tensor,
    local_region,
    local_tensor,
    open_tensors,
)
from gptexp.distributed.strategies import build_mesh, context_mesh, shard_model
from gptexp.model import Transformer, TransformerConfig
from gptexp.model.context_parallel import ContextGroup
from gptexp.training.optimizers import build_optimizers

CPU = torch.device("cpu")
TOKENS = torch.randint(600, (4, 2, 8), generator=torch.Generator().manual_seed(0))
MUON = MuonConfig(lr=0.02, adamw_lr=0.001)


class Collectives(TorchDispatchMode):
    """Notes the name of each collective."""

    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # it calls its own collectives, which come here
        if func.namespace in ("c10d", "_c10d_functional"):
            self.names.append(func.name().partition("::")[2])
        return func(*args, **(kwargs or {}))


def build() -> Transformer:
    torch.manual_seed(0)
    sizes = {"layers": 2, "d_model": 64, "heads": 4, "kv_heads": 2, "d_ff": 96}
    return Transformer(TransformerConfig(vocab_size=600, context=8, **sizes))


def take_steps(
    rank: int, size: int, strategy: str, tensor: int = 1, context: int = 1
) -> tuple[list[str], int, list[torch.Size]]:
    """Return the collectives of two steps of one rank, the elements that it holds, and the shapes of the model."""
    group = ProcessGroup(rank, size, rank % 8, 8, tensor, context)
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=size)
    try:
        model = build()
        config = TrainerConfig(strategy=strategy, tensor_parallel=tensor)
        mesh = build_mesh(config, group, CPU)
        shard_model(model, mesh, config)
        if context > 1:
            shared = context_mesh(group, CPU)
            model.context_group = ContextGroup(
                shared.get_group(), shared.get_local_rank(), shared.size()
            )
        optimizers = build_optimizers(model, MUON)
        with Collectives() as collectives:
            for _ in range(2):
                model.loss(TOKENS[0], TOKENS[0]).targets.backward()
                clip_grad_norm(model.parameters(), 1.0)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
        parameters = list(model.parameters())
        for parameter in parameters:
            shape = [part.stop - part.start for part in local_region(parameter)]
            assert list(local_tensor(parameter).shape) == shape
        held = sum(local_tensor(p).numel() for p in parameters)
        return collectives.names, held, [p.shape for p in parameters]
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("size", "strategy"), [(8, "fsdp"), (512, "fsdp"), (64, "hsdp"), (512, "hsdp")]
)
def test_all_ranks_call_the_same_collectives_and_hold_their_part(size, strategy, monkeypatch):
    # torch caches by mesh, and would take one rank for the other.
    monkeypatch.setattr(DeviceMesh, "__eq__", object.__eq__)
    monkeypatch.setattr(DeviceMesh, "__hash__", object.__hash__)
    names, held, shapes = take_steps(0, size, strategy)
    last_names, last_held, _ = take_steps(size - 1, size, strategy)
    parts = size if strategy == "fsdp" else 8
    assert held == sum(math.ceil(rows / parts) * math.prod(rest) for rows, *rest in shapes)
    assert last_held <= held
    # Weights of the blocks and of the rest: gathered in the forward pass, and the blocks' again in the backward pass.
    # Muon exchanges the matrices of four shapes, there and back.
    a_step = {
        "_allgather_base_": 5,
        "_reduce_scatter_base_": 3,
        "all_reduce": 1,
        "alltoall_base_": 8,
    }
    a_step |= {"allreduce_": 3} if strategy == "hsdp" else {}  # of gradients, between machines
    counts = Counter(name for name in names if not name.startswith("_wrap"))
    assert counts == {name: 2 * count for name, count in a_step.items()}
    assert names == last_names


def test_all_ranks_that_share_matrices_and_sequences_call_the_same_collectives(monkeypatch):
    monkeypatch.setattr(DeviceMesh, "__eq__", object.__eq__)
    monkeypatch.setattr(DeviceMesh, "__hash__", object.__hash__)
    steps = [take_steps(rank, 64, "fsdp", tensor=2, context=4) for rank in (0, 1, 62, 63)]
    names = [[name for name in names if not name.startswith("_wrap")] for names, _, _ in steps]
    # Groups for tensor parallelism that have no share of Muon's matrices exchange none.
    assert names[0] == names[1]
    assert names[2] == names[3]
    others = [Counter(x for x in each if "alltoall" not in x) for each in names]
    assert others[0] == others[2]
    assert others[0]["allreduce_"] == 2 * 3  # for the norm of the gradients
    assert max(held for _, held, _ in steps) == steps[0][1]


def train_on_a_machine(rank, file, folder):
    """Compute gradients as one of four ranks, two on each of two machines, and store the shard of the weights."""
    torch.set_num_threads(1)  # those of the parent do not survive a fork
    dist.init_process_group("gloo", f"file://{file}", rank=rank, world_size=4)
    model = build()
    config, group = TrainerConfig(strategy="hsdp"), ProcessGroup(rank, 4, rank % 2, 2)
    shard_model(model, build_mesh(config, group, CPU), config)
    model.loss(TOKENS[rank], TOKENS[rank]).targets.backward()
    gradients = {name: full_tensor(p.grad) for name, p in model.named_parameters()}
    if rank == 3:
        save_file(gradients, folder / "gradients.safetensors")
    pieces, metadata = collect_shard(model.named_parameters(), rank == 0, None)
    save_file(pieces, folder / f"model-{rank}.safetensors", metadata)
    dist.barrier()
    os._exit(0)


def test_machines_share_gradients_and_store_the_weights_once(tmp_path):
    mp.start_processes(train_on_a_machine, (tmp_path / "store", tmp_path), 4, start_method="fork")
    model = build()
    sum(model.loss(tokens, tokens).targets for tokens in TOKENS).backward()
    gradients, stored = (
        load_file(tmp_path / "gradients.safetensors"),
        open_tensors(tmp_path, "model"),
    )
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(4 * gradients[name], parameter.grad, atol=1e-5, rtol=1e-5)
        assert torch.equal(stored[name].read_all(), parameter)
    files = [load_file(tmp_path / f"model-{rank}.safetensors") for rank in range(4)]
    assert [bool(file) for file in files] == [True, True, False, False]
