"""RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467) and LayerNorm (Ba et al. 2016, arXiv 1607.06450)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptexp.model.config import TransformerConfig
from gptexp.model.cpu_training import RMSNormOnCPU, trains_on_cpu


class RMSNorm(nn.RMSNorm):
    """nn.RMSNorm in the precision of its input, also under autocast.

    The fused kernel needs a weight of that precision. From torch 2.12 on, autocast on CUDA would compute it, and
    attention after it, in fp32 (pytorch issue 188955).
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self._normalize(x)
        return self._normalize(x)

    def _normalize(self, x: Tensor) -> Tensor:
        if trains_on_cpu(x):
            return RMSNormOnCPU.apply(x, self.weight, self.eps)
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def norm(config: TransformerConfig) -> nn.Module:
    """Build the norm of the residual stream."""
    if config.norm == "rms":
        return RMSNorm(config.d_model, eps=config.norm_eps)
    return nn.LayerNorm(config.d_model, eps=config.norm_eps)
