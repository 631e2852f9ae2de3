"""Width transfer: initial weights and learning rates by which a wider model learns as the one that was tuned.

The maximal update parametrization (Yang et al. 2022, arXiv 2203.03466, table 8), for Adam and for Muon, whose step is
alike at every width already. The table multiplies logits by base_width / d_model. Here, the weight of the last norm
begins at this factor, and its rate is scaled by it. For Adam that is the same, and the model stays an ordinary
Transformer, which exports, decoders and checkpoints know. The table scales scores of attention as well, which did worse
where wider models have wider heads (docs/scaling.md), so they stay as they are.
"""

from gptexp.model.config import TransformerConfig


def width_ratio(config: TransformerConfig) -> float:
    """Return d_model / base_width; 1 without a base_width."""
    return config.d_model / (config.base_width or config.d_model)


def norm_gain(config: TransformerConfig, name: str) -> float:
    """Return the initial weight of a norm; `name` is that of its module."""
    return 1 / width_ratio(config) if name == "norm" else 1.0


def rate_scale(config: TransformerConfig, name: str, ndim: int) -> float:
    """Return the factor of Adam's learning rate of a parameter."""
    if "blocks." in name and ndim >= 2:
        return 1 / width_ratio(config)
    return norm_gain(config, name.rpartition(".")[0])
