"""Ranks that divide matrices or sequences among them compute what one process computes."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from models import GPT2, a_model
from torch.distributed.device_mesh import init_device_mesh

from gptexp.checkpoints.checkpointer import Checkpointer
from gptexp.checkpoints.optimizer_state import OptimizerState
from gptexp.config.schema import AdamWConfig, MuonConfig, TrainerConfig
from gptexp.data.batch import Batch
from gptexp.distributed.process_group import ProcessGroup
from gptexp.distributed.sharding import clip_grad_norm, full_tensor, reshard
from gptexp.distributed.strategies import context_mesh, shard_model
from gptexp.loss import LossCounts
from gptexp.model.context_parallel import ContextGroup
from gptexp.training.evaluation import compute_batch_losses
from gptexp.training.module import seed_step
from gptexp.training.optimizers import build_optimizers

ADAMW = AdamWConfig(kind="adamw", lr=0.001)
MUON = MuonConfig(kind="muon", lr=0.02, adamw_lr=0.001)
LAYOUTS = {  # tensor and context parallel ranks, of four
    (2, 1): ({}, MUON),
    (2, 2): (GPT2, ADAMW),
    (1, 2): ({"window": 5, "window_pattern": "SL", "dropout": 0.1}, ADAMW),
}


def batches(count):
    """Windows of 21 tokens, which two or four chunks do not divide, with documents."""
    random = torch.Generator().manual_seed(1)
    for _ in range(count):
        tokens = torch.randint(50, (4, 22), generator=random)
        documents = (torch.arange(21) // 9).expand(4, -1)
        counts = LossCounts(targets=84, tokens=84)
        yield Batch(tokens[:, :-1], tokens[:, 1:], counts, documents)


def steps(model, optimizers, group, start, end):
    """Losses and norms of the gradients of some steps, and the loss of a validation."""
    figures = []
    for step, batch in list(enumerate(batches(end)))[start:]:
        seed_step(1, step, group.token_rank)
        part = batch.rows(slice(group.data_rank, None, group.data_size))
        loss = model.loss(**part.inputs()).mean(batch.counts)
        (loss * group.token_size).backward()
        norm = clip_grad_norm(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        figures += [group.all_reduce(loss.detach() * group.counts_tokens).item(), norm.item()]
    sums, counts = compute_batch_losses(model, list(batches(2)), "32", group).total()
    return [*figures, sums.mean(counts).item()]


def divide(model, group):
    """Shard a plain model as a run does, and let ranks share sequences."""
    if group.size > 1:
        mesh = init_device_mesh(
            "cpu",
            (group.token_size, group.tensor_parallel),
            mesh_dim_names=("data_parallel", "tensor_parallel"),
        )
        config = TrainerConfig(strategy="fsdp", tensor_parallel=group.tensor_parallel)
        shard_model(model, mesh, config)
    if group.context_parallel > 1:
        mesh = context_mesh(group, torch.device("cpu"))
        model.context_group = ContextGroup(mesh.get_group(), mesh.get_local_rank(), mesh.size())


def state_of(model, optimizers):
    reshard(model)
    encoded = OptimizerState(model, optimizers).encode()
    tensors = {**dict(model.named_parameters()), **encoded.tensors}
    return {name: full_tensor(tensor.detach()).clone() for name, tensor in tensors.items()}


def train_on_rank(rank, file, folder, expected):
    torch.set_num_threads(1)  # those of the parent do not survive a fork
    dist.init_process_group("gloo", f"file://{file}", rank=rank, world_size=4)
    for number, ((tensor, context), (switches, config)) in enumerate(LAYOUTS.items()):
        group = ProcessGroup(rank, 4, rank, 4, tensor, context)
        checkpointer = Checkpointer(folder / str(number), group, sharded=number == 0)
        ends = []
        for is_resumed in (False, True):
            model = a_model(**switches).train()
            if is_resumed:
                checkpointer.latest_valid().load_weights(model)
            divide(model, group)
            optimizers = build_optimizers(model, config)
            state = OptimizerState(model, optimizers)
            if is_resumed:
                checkpointer.latest_valid().load_optimizers(state)
                figures = figures[:2]  # noqa: F821
            else:
                figures = steps(model, optimizers, group, 0, 1)[:2]
                checkpointer.save(model, state, {"step": 1}, {})
                checkpointer.finish()
            figures += steps(model, optimizers, group, 1, 2)
            ends.append(state_of(model, optimizers))
            if not model.config.dropout:  # ranks draw masks of their own for their tokens
                assert figures == pytest.approx(expected[number], abs=1e-4)
        for name, tensor in ends[0].items():
            assert torch.equal(tensor, ends[1][name]), name
    dist.barrier()
    os._exit(0)


def test_ranks_that_share_matrices_and_sequences_train_as_one_and_resume_to_the_bit(tmp_path):
    expected = []
    for switches, config in LAYOUTS.values():
        model = a_model(**switches).train()
        expected.append(steps(model, build_optimizers(model, config), ProcessGroup(), 0, 2))
    arguments = (tmp_path / "store", tmp_path, expected)
    mp.start_processes(train_on_rank, arguments, 4, start_method="fork")
