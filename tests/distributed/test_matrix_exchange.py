"""Muon on ranks that share its work, against one rank that does all of it."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.testing._internal.distributed.fake_pg import FakeStore

from gptexp.distributed.sharding import full_tensor
from gptexp.training.muon import Muon
from gptexp.training.optimizers import AdamW

# More and fewer matrices than ranks, tall and wide ones, rows that no number of ranks divides, a stack of experts.
# Each row fills the CPU's vectors: otherwise the last numbers of a piece are not rounded as inside of the matrix.
SHAPES = [(8, 32)] * 5 + [(7, 16)] * 2 + [(1, 32), (34, 16), (8, 32), (3, 6, 16), (5, 6, 16)]


def random_parameters(shapes=SHAPES):
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in shapes]


def shard(parameter, mesh, *placements):
    return nn.Parameter(distribute_tensor(parameter.detach(), mesh, placements))


def shard_like(full, parameter):
    if not isinstance(parameter, DTensor):
        return full
    mesh, placements = parameter.device_mesh, parameter.placements
    return distribute_tensor(full, mesh, placements, src_data_rank=None)  # all ranks have all of it


def train(parameters, dtype, steps=3):
    """Return the weights after some steps of random gradients, and the exchanges of the last step."""
    torch.manual_seed(1)
    optimizer = Muon(parameters, 0.02, momentum=0.95, weight_decay=0.1, dtype=dtype)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = shard_like(torch.randn(parameter.shape), parameter)
        with CommDebugMode() as communication:
            optimizer.step()
    return [full_tensor(p).detach() for p in parameters], dict(communication.get_comm_counts())


def share_work(rank, ranks, file, dtype, expected):
    torch.set_num_threads(1)  # those of the parent do not survive a fork
    dist.init_process_group("gloo", f"file://{file}", rank=rank, world_size=ranks)
    mesh = init_device_mesh("cpu", (ranks,))
    for placement, exchanges in (  # experts are sharded as a stack of complete matrices
        (None, {torch.ops.c10d._allgather_base_: 6}),
        (Shard(0), {torch.ops.c10d.alltoall_base_: 2 * 4}),
        (Replicate(), {}),
    ):
        parameters = [
            parameter if placement is None else shard(parameter, mesh, placement)
            for parameter in random_parameters()
        ]
        weights, counts = train(parameters, dtype)
        torch.testing.assert_close(weights, expected, atol=0, rtol=0)
        assert counts == exchanges
    if ranks == 4:
        assert_two_dimensions_share_the_work(dtype)
    dist.barrier()
    os._exit(0)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down = nn.Linear(16, 32, bias=False), nn.Linear(32, 16, bias=False)


def assert_two_dimensions_share_the_work(dtype):
    """FSDP2 over pieces that tensor parallelism has made, and on each of two machines."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    layer = parallelize_module(Layer(), mesh["tensor"], plan)
    fully_shard(layer, mesh=mesh["data"])
    weights, counts = train(list(layer.parameters()), dtype)
    expected, _ = train(
        [shard(p, mesh, Replicate(), Replicate()) for p in Layer().parameters()], dtype
    )
    torch.testing.assert_close(weights, expected, atol=0, rtol=0)
    assert set(counts) == {torch.ops.c10d.alltoall_base_}
    # Each of two machines has all pieces.
    copies = [shard(p, mesh, Replicate(), Shard(0)) for p in Layer().parameters()]
    weights, counts = train(copies, dtype)
    torch.testing.assert_close(weights, expected, atol=0, rtol=0)
    assert counts == {torch.ops.c10d.alltoall_base_: 2 * 2}


@pytest.mark.parametrize(
    ("ranks", "dtype"), [(2, torch.bfloat16), (3, torch.float32), (4, torch.float32)]
)
def test_ranks_share_the_work_and_get_what_one_rank_computes(ranks, dtype, tmp_path):
    torch.set_num_threads(1)
    expected, _ = train(random_parameters(), dtype)
    arguments = (ranks, tmp_path / "store", dtype, expected)
    mp.start_processes(share_work, arguments, ranks, start_method="fork")


@pytest.fixture
def fake_ranks():
    """Return a function that makes this process one of many ranks that do not exist."""
    yield lambda rank, ranks: dist.init_process_group(
        "fake", store=FakeStore(), rank=rank, world_size=ranks
    )
    dist.destroy_process_group()


def test_adamw_updates_parts_of_sharded_parameters_as_plain_tensors(fake_ranks, monkeypatch):
    fake_ranks(0, 2)
    types, fused_adamw = set(), torch._fused_adamw_

    def record_types(weights, *arguments, **options):
        types.update(map(type, weights))
        return fused_adamw(weights, *arguments, **options)

    monkeypatch.setattr(torch, "_fused_adamw_", record_types)
    mesh = init_device_mesh("cpu", (2,))
    plain, sharded = nn.Parameter(torch.ones(4, 3)), shard(torch.ones(4, 3), mesh, Shard(0))
    for parameter in (plain, sharded):
        optimizer = AdamW([parameter], lr=0.1, fused=True)
        for _ in range(3):
            parameter.grad = torch.full_like(parameter, 0.5)
            optimizer.step()
    assert torch.equal(plain[:2], sharded.to_local())
    assert optimizer.state[sharded]["exp_avg"].placements == sharded.placements
    assert DTensor not in types


@pytest.mark.parametrize("rank", [0, 300, 511])
def test_hundreds_of_ranks_exchange_as_few_times_as_two(rank, fake_ranks):
    fake_ranks(rank, 512)
    mesh = init_device_mesh("cpu", (512,))
    parameters = [shard(torch.zeros(shape), mesh, Shard(0)) for shape in SHAPES]
    _, counts = train(parameters, torch.float32, steps=1)
    assert counts == {torch.ops.c10d.alltoall_base_: 2 * 4}
