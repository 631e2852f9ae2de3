"""Optimizers: Muon for the blocks' matrices with AdamW for the rest, or AdamW for everything."""

import torch
from torch import nn
from torch.optim import Optimizer

from gptexp.config import schema
from gptexp.distributed.devices import has_fast_bf16
from gptexp.errors import UserError
from gptexp.training.muon import Muon


def build(model: nn.Module, config: schema.OptimConfig) -> list[Optimizer]:
    """Optimizers over all parameters of `model`; each group remembers its peak rate as `peak_lr`."""
    assert config.lr is not None
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    match config:
        case schema.MuonConfig():
            assert config.adamw_lr is not None
            # Embeddings and the head are matrices too, but of one-hot inputs or outputs: AdamW suits them better
            # (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks").
            hidden = [p for name, p in trained if p.ndim == 2 and "blocks." in name]
            rest = [p for name, p in trained if not (p.ndim == 2 and "blocks." in name)]
            dtype = torch.bfloat16 if has_fast_bf16(hidden[0].device) else torch.float32
            muon = Muon(hidden, config.lr, config.momentum, config.weight_decay, dtype)
            optimizers: list[Optimizer] = [muon, _adamw(rest, config, config.adamw_lr)]
        case schema.AdamWConfig():
            optimizers = [_adamw([p for _, p in trained], config, config.lr)]
        case _:
            raise UserError(f"optim.kind={config.kind}: not known. Allowed: muon, adamw")
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def _adamw(parameters: list[nn.Parameter], config: schema.OptimConfig, lr: float) -> Optimizer:
    """Weight decay for matrices only: norms and biases have no scale to lose."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=lr,
        betas=(config.beta1, config.beta2),
        fused=True,
    )
