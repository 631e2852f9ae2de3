"""RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467) and LayerNorm (Ba et al. 2016, arXiv 1607.06450)."""

from torch import Tensor, nn
from torch.nn import functional as F

from gptexp.model.config import TransformerConfig


class RMSNorm(nn.RMSNorm):
    """nn.RMSNorm with its weight cast to the input's precision, which the fused kernel needs under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def norm(config: TransformerConfig) -> nn.Module:
    """Build the norm of the residual stream."""
    if config.norm == "rms":
        return RMSNorm(config.d_model, eps=config.norm_eps)
    return nn.LayerNorm(config.d_model, eps=config.norm_eps)
