"""Random weights of a Transformer that is new."""

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from gptexp.model.mixture_of_experts import ExpertLinear
from gptexp.model.width_transfer import norm_gain, width_ratio

if TYPE_CHECKING:
    from gptexp.model.transformer import Transformer


@torch.no_grad()
def init_weights(model: "Transformer") -> None:
    """Draw random weights. gpt2: as Radford et al. 2019. zero: each block starts as the identity.

    The second suits Muon (Jordan et al. 2024, modded-nanogpt).
    """
    gpt2 = model.config.initialisation == "gpt2"
    ratio = width_ratio(model.config)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | ExpertLinear):
            is_output = name.endswith(("attention.output", "feed_forward.down", "shared.down"))
            std = 0.02 / math.sqrt(2 * model.config.layers) if is_output else 0.02
            if gpt2 and ".blocks." in f".{name}":
                std /= math.sqrt(ratio)
            if not gpt2:
                std = 0.0 if is_output else 0.5 / math.sqrt(module.in_features)
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    std = 0.02 if model.config.tie_embeddings or gpt2 else 1.0
    if model.config.position == "sinusoidal":
        std = model.config.d_model**-0.5
    nn.init.normal_(model.embedding.weight, std=std)
    if model.positions is not None:
        nn.init.normal_(model.positions.weight, std=0.02)
    if model.head.weight is not model.embedding.weight and not gpt2:
        nn.init.zeros_(model.head.weight)
    for name, module in model.named_modules():
        gain = norm_gain(model.config, name)
        if gain != 1 and isinstance(module, nn.RMSNorm | nn.LayerNorm):
            nn.init.constant_(module.weight, gain)
    if model.class_head is not None:
        nn.init.zeros_(model.class_head.weight)
