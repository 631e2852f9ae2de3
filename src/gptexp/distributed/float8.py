"""float8 products in the blocks' linear layers, by torchao (trainer.precision=float8).

Weights, optimizers and checkpoints stay as they are: inputs, weights and gradients are scaled and cast for each product
(Micikevicius et al. 2022, arXiv 2209.05433). Everything else is computed as with bf16, as are validation with other
programs and generation.
"""

import torch
from torch import nn

from gptexp.errors import UserError

ALIGNMENT = 16  # of both dimensions of a weight
MIN_CAPABILITY = (8, 9)  # of GPUs that multiply in float8


def check_float8(device: torch.device) -> None:
    """Check that the device multiplies in float8.

    Raises:
        UserError: it does not.
    """
    found = "this run uses the CPU"
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability >= MIN_CAPABILITY:
            return
        name = torch.cuda.get_device_name(device)
        found = f"{name} has {capability[0]}.{capability[1]}"
    raise UserError(
        f"trainer.precision=float8: needs a GPU of compute capability {MIN_CAPABILITY[0]}.{MIN_CAPABILITY[1]} or "
        f"more, such as H100 or L40S, and {found}. Use trainer.precision=auto"
    )


def convert_to_float8(model: nn.Module) -> None:
    """Let the blocks' linear layers multiply in float8, in place. Parameters keep their names and types."""
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    # Batches of any number of tokens: a gradient of a weight sums over them, in multiples of 16.
    settings = Float8LinearConfig(pad_inner_dim=True)
    convert_to_float8_training(model, config=settings, module_filter_fn=is_convertible)


def is_convertible(module: nn.Module, name: str) -> bool:
    """Return whether a module is a linear layer of a block whose sizes suit the hardware; routers choose in fp32."""
    return (
        type(module) is nn.Linear
        and "blocks." in name
        and not name.endswith(".router")
        and not module.in_features % ALIGNMENT
        and not module.out_features % ALIGNMENT
    )
