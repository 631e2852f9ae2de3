"""Positions: rotary (Su et al. 2021, arXiv 2104.09864) and sinusoidal (Vaswani et al. 2017, arXiv 1706.03762).

Legend: B sequences, T tokens, H heads, C width, D size of a head.
"""

import math

import torch
from torch import Tensor, nn

from gptexp.model.cpu_training import RotationOnCPU, trains_on_cpu


class Rotary(nn.Module):
    """Rotate queries and keys by angles that grow with their positions, so that attention sees distances.

    Pairs are made of the two halves of a head, as in Llama and Qwen, not of neighbouring numbers.
    """

    def __init__(self, head_dim: int, theta: float, scaling: dict[str, float]) -> None:
        super().__init__()
        self.head_dim, self.theta, self.scaling = head_dim, theta, scaling

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """positions [B or 1, T] -> cosines and sines [B or 1, 1, T, D], in fp32."""
        angles = positions[..., None].float() * self.frequencies(positions.device)  # [B, T, D/2]
        angles = torch.cat((angles, angles), dim=-1)[:, None]
        return angles.cos(), angles.sin()

    def frequencies(self, device: torch.device) -> Tensor:
        """Return radians a token [D/2]; the scaling of Llama 3 lowers low frequencies, for longer contexts."""
        pairs = torch.arange(0, self.head_dim, 2, device=device, dtype=torch.float32)
        frequencies = 1.0 / self.theta ** (pairs / self.head_dim)
        if not self.scaling:
            return frequencies
        low, high = self.scaling["low_freq_factor"], self.scaling["high_freq_factor"]
        original_context = self.scaling["original_max_position_embeddings"]
        rotations = original_context * frequencies / (2 * math.pi)
        smooth = ((rotations - low) / (high - low)).clamp(0, 1)
        return (1 - smooth) * frequencies / self.scaling["factor"] + smooth * frequencies


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x [B, H, T, D] by angles with cos and sin [B or 1, 1, T, D]."""
    if trains_on_cpu(x):
        return RotationOnCPU.apply(x, cos, sin)
    left, right = x.chunk(2, dim=-1)
    rotated = torch.cat((-right, left), dim=-1)
    return (x * cos + rotated * sin).to(x.dtype)


def sinusoidal(positions: Tensor, width: int) -> Tensor:
    """Embed positions [B, T] as [B, T, C]: sines of falling frequency, then the cosines."""
    half = (width + 1) // 2
    frequencies = torch.exp(
        -math.log(10000) * 2 * torch.arange(half, device=positions.device) / width
    )
    angles = positions[..., None].float() * frequencies  # [B, T, C/2]
    return torch.cat((angles.sin(), angles.cos()[..., : width // 2]), dim=-1)
