"""Rotary positions (Su et al. 2021, arXiv 2104.09864), with the halves of a head split as in Llama and Qwen.

Legend: B sequences, T tokens, H heads, D size of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Turns the angles of queries and keys by their position, so that attention sees distances."""

    def __init__(self, head_size: int, theta: float) -> None:
        super().__init__()
        self.head_size, self.theta = head_size, theta

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """positions [B or 1, T] -> cosines and sines [B or 1, 1, T, D], in fp32."""
        pairs = torch.arange(0, self.head_size, 2, device=positions.device, dtype=torch.float32)
        frequencies = 1.0 / self.theta ** (pairs / self.head_size)  # [D/2]
        angles = positions[..., None].float() * frequencies  # [B, T, D/2]
        angles = torch.cat((angles, angles), dim=-1)[:, None]
        return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, H, T, D], cos and sin [B or 1, 1, T, D]."""
    left, right = x.chunk(2, dim=-1)
    turned = torch.cat((-right, left), dim=-1)
    return (x * cos + turned * sin).to(x.dtype)
