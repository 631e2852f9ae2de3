"""Feed-forward layers: GELU (arXiv 1606.08415), squared ReLU (2109.08668) and the gated SwiGLU (2002.05202).

Legend: B sequences, T tokens, C width.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from gptexp.model.config import TransformerConfig


class FeedForward(nn.Module):
    """Two linear layers with an activation between them; with SwiGLU, a gate beside the first."""

    def __init__(self, config: TransformerConfig, d_ff: int | None = None) -> None:
        super().__init__()
        self.kind, d_ff = config.feed_forward, d_ff or config.d_ff
        has_gate = self.kind == "swiglu"
        self.gate = nn.Linear(config.d_model, d_ff, config.bias) if has_gate else None
        self.up = nn.Linear(config.d_model, d_ff, config.bias)
        self.down = nn.Linear(d_ff, config.d_model, config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, C] -> [B, T, C]."""
        gate = None if self.gate is None else self.gate(x)
        return self.down(activate(self.kind, self.up(x), gate))


def activate(kind: str, up: Tensor, gate: Tensor | None) -> Tensor:
    match kind:
        case "swiglu":
            assert gate is not None
            return F.silu(gate) * up
        case "gelu":
            return F.gelu(up, approximate="tanh")
        case _:
            return F.relu(up).square()
