"""Mixture of experts: a router sends each token to a few of many feed-forward layers (Shazeer et al. 2017, 1701.06538).

Softmax router with normalised weights of the chosen experts, as in Mixtral (arXiv 2401.04088) and Qwen3 (2505.09388);
shared experts that compute every token, as in DeepSeekMoE (2401.06066); balance of the load within each sequence by the
loss of DeepSeek-V3 (2412.19437, equations 17 to 20).

Legend: B sequences, T tokens, N = B T, C width, F inner width, E experts, K experts that a token is sent to.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptexp.model.config import TransformerConfig
from gptexp.model.feed_forward import FeedForward, activate

# torch 2.10 has a public name for it.
grouped_mm = getattr(F, "grouped_mm", None) or torch._grouped_mm
GROUPED_DEVICES = ("cuda",)


class Routing(NamedTuple):
    """Decisions of a router in one pass."""

    probabilities: Tensor  # [B, T, E]
    chosen: Tensor  # [B, T, E], 1 for the K experts that a token is sent to, else 0

    def without_padding(self, lengths: Tensor | None) -> "Routing":
        """Return a copy with zeros beyond lengths [B]."""
        if lengths is None:
            return self
        positions = torch.arange(self.chosen.shape[1], device=lengths.device)
        is_token = (positions < lengths[:, None])[..., None]
        return Routing(self.probabilities * is_token, self.chosen * is_token)


class ExpertLinear(nn.Module):
    """One linear layer without bias for each expert, stacked as [E, out, in]."""

    def __init__(self, experts: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.bias = in_features, None
        self.weight = nn.Parameter(torch.empty(experts, out_features, in_features))

    def forward(self, x: Tensor, counts: list[int] | Tensor) -> Tensor:
        """x [N K, in], sorted by expert, counts [E] rows for each -> [N K, out].

        A tensor of counts stays on the device, and one kernel multiplies for all experts.
        """
        if isinstance(counts, Tensor):
            ends = counts.cumsum(0, dtype=torch.int32)
            return grouped_mm(x.bfloat16(), self.weight.bfloat16().mT, offs=ends)
        parts = zip(x.split(counts), self.weight, strict=True)
        return torch.cat([F.linear(rows, weight) for rows, weight in parts])


class MixtureOfExperts(nn.Module):
    """Send each token to `experts_per_token` of `experts` feed-forward layers, and to the shared experts."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        E, C, d_ff = config.experts, config.d_model, config.d_ff  # noqa: N806
        self.kind, self.experts_per_token = config.feed_forward, config.experts_per_token
        self.router = nn.Linear(C, E, bias=False)
        self.gate = ExpertLinear(E, C, d_ff) if self.kind == "swiglu" else None
        self.up = ExpertLinear(E, C, d_ff)
        self.down = ExpertLinear(E, d_ff, C)
        shared = config.shared_experts
        self.shared = FeedForward(config, shared * d_ff) if shared else None
        self.routing: Routing | None = None  # of the last pass

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, C] -> [B, T, C]."""
        weights, experts = self._route(x)  # [N, K]
        tokens, K = x.flatten(0, -2), self.experts_per_token  # noqa: N806
        order = experts.flatten().argsort(stable=True)  # [N K], sorted by expert
        counts = self._count_rows(experts)
        rows = tokens.repeat_interleave(K, dim=0)[order]
        gate = None if self.gate is None else self.gate(rows, counts)
        rows = self.down(activate(self.kind, self.up(rows, counts), gate), counts)
        rows = rows[order.argsort()].view(len(tokens), K, -1)
        y = (rows * weights[..., None].to(rows.dtype)).sum(dim=1).view(x.shape)
        return y if self.shared is None else y + self.shared(x)

    def _count_rows(self, experts: Tensor) -> list[int] | Tensor:
        """Count the rows of each expert: on the host, or where one kernel multiplies for all, on the device."""
        device, sizes = experts.device.type, self.up.weight.shape[1:]
        in_bf16 = (
            torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
        )
        if device in GROUPED_DEVICES and in_bf16 and not any(size % 8 for size in sizes):
            numbers = torch.arange(self.router.out_features, device=experts.device)
            return (experts.flatten()[:, None] == numbers).sum(dim=0)
        return torch.bincount(experts.flatten(), minlength=self.router.out_features).tolist()

    def _route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and numbers [N, K] of the experts that each token is sent to."""
        probabilities = self.router(x).float().softmax(dim=-1)  # [B, T, E]
        weights, experts = probabilities.topk(self.experts_per_token, dim=-1)
        chosen = torch.zeros_like(probabilities).scatter(-1, experts, 1.0)
        self.routing = Routing(probabilities, chosen)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        return weights.flatten(0, -2), experts.flatten(0, -2)


def pop_routings(blocks: nn.ModuleList, lengths: Tensor | None) -> list[Routing]:
    """Take the routers' decisions of the last pass from `blocks`, without those beyond lengths [B]."""
    routings = []
    for layer in blocks.modules():
        if isinstance(layer, MixtureOfExperts) and layer.routing is not None:
            routings.append(layer.routing.without_padding(lengths))
            layer.routing = None  # it holds the graph of the pass
    return routings


def balance_loss(routing: Routing) -> Tensor:
    """Return the imbalance of each sequence times its tokens, summed over sequences; 1 a token where the load is even.

    Sums over sequences, so that neither micro-batches nor ranks change it.
    """
    chosen, probabilities = (x.sum(dim=1) for x in routing)  # [B, E]
    shares = chosen * chosen.shape[1] / chosen.sum(dim=1, keepdim=True).clamp(min=1)  # f of (18)
    return (shares * probabilities).sum()


def expert_load(expert_tokens: Tensor) -> float:
    """Return the tokens of the busiest expert over the mean of its layer, from tokens [layers, E]; 1 is even."""
    return float((expert_tokens.amax(dim=1) / expert_tokens.mean(dim=1).clamp(min=1)).max())
