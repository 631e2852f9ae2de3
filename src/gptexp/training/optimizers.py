"""Optimizers: Muon for the blocks' matrices with AdamW for the rest, or AdamW for everything."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gptexp.config import schema
from gptexp.config.targets import build_target, import_target
from gptexp.distributed.devices import has_fast_bf16
from gptexp.distributed.sharding import compute_device, group_by_mesh, local_tensor
from gptexp.model import Transformer
from gptexp.model.width_transfer import rate_scale
from gptexp.training.muon import Muon, is_hidden_matrix

NamedParameters = list[tuple[str, nn.Parameter]]


class AdamW(torch.optim.AdamW):
    """torch's AdamW; it updates this rank's parts of sharded parameters, of any mesh, without a DTensor's overhead."""

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> Any:
        has_complex = super()._init_group(group, *lists)
        for tensors in lists:
            tensors[:] = map(local_tensor, tensors)
        return has_complex


def build_optimizers(model: Transformer, config: schema.OptimConfig) -> list[Optimizer]:
    """Build the optimizers that the config names, over all trained parameters of `model`.

    Each of their groups has its peak learning rate as `peak_lr`.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if config.parameters is not None:  # a class of torch's kind, named by `_target_`
        optimizers = [build_target(config, params=_groups_by_decay(config, named))]
    else:
        optimizers = import_target(config.target)(config, named, compute_device(named[0][1]))
    for optimizer in optimizers:
        if model.config.base_width and not isinstance(optimizer, Muon):
            _transfer_rates(optimizer, model)
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def build_muon(
    config: schema.MuonConfig, named: NamedParameters, device: torch.device
) -> list[Optimizer]:
    """Build Muon for the matrices of the blocks, AdamW for everything else."""
    assert config.lr is not None
    assert config.adamw_lr is not None
    hidden = [p for name, p in named if is_hidden_matrix(name, p)]
    rest = [p for name, p in named if not is_hidden_matrix(name, p)]
    dtype = torch.bfloat16 if has_fast_bf16(device) else torch.float32
    muon = Muon(hidden, config.lr, config.momentum, config.weight_decay, dtype)
    return [muon, _adamw(rest, config, config.adamw_lr)]


def build_adamw(
    config: schema.AdamWConfig, named: NamedParameters, _device: torch.device
) -> list[Optimizer]:
    assert config.lr is not None
    return [_adamw([p for _, p in named], config, config.lr)]


def _groups_by_decay(config: schema.OptimConfig, named: NamedParameters) -> list[dict[str, Any]]:
    """Return groups of matrices and of other parameters, which have no weight decay where there is any."""
    matrices, others = [p for _, p in named if p.ndim >= 2], [p for _, p in named if p.ndim < 2]
    has_decay = any(parameter.name == "weight_decay" for parameter in config.parameters or ())
    no_decay = {"weight_decay": 0.0} if has_decay else {}
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, **no_decay}]
    return _split_by_mesh(groups)


def _split_by_mesh(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Divide groups with parameters on several meshes, and drop empty ones."""
    return [
        {**group, "params": parameters}
        for group in groups
        for parameters in group_by_mesh(group["params"])
    ]


def _transfer_rates(optimizer: Optimizer, model: Transformer) -> None:
    """Divide the groups of AdamW by the factor of the learning rate that the model's base_width implies.

    The decay of a step, learning rate x weight_decay, stays as it is.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = []
    for group in optimizer.param_groups:
        parameters: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            scale = rate_scale(model.config, names[parameter], parameter.ndim)
            parameters.setdefault(scale, []).append(parameter)
        # The first group's rate is the one that is logged.
        for scale in sorted(parameters, key=lambda scale: (scale != 1, -scale)):
            rates = {"lr": scale * group["lr"], "weight_decay": group["weight_decay"] / scale}
            groups.append({**group, "params": parameters[scale], **rates})
    optimizer.param_groups = groups


def _adamw(
    parameters: list[nn.Parameter], config: schema.MuonConfig | schema.AdamWConfig, lr: float
) -> Optimizer:
    """Build AdamW with weight decay for matrices only, not for norms and biases."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW(
        [group for group in groups if group["params"]],
        lr=lr,
        betas=(config.beta1, config.beta2),
        fused=True,
    )
