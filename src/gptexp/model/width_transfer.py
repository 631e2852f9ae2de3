"""Width transfer: initial weights and learning rates by which a wider model learns as the one that was tuned.

The maximal update parametrization (Yang et al. 2022, arXiv 2203.03466, table 8), for Adam and for Muon, whose step is
alike at every width already. The table multiplies logits by base_width / d_model and scores of attention by
sqrt(base_head_dim) / head_dim. Here, the weights of the last norm and of the norm of the queries begin at these
factors, and their rates are scaled by them. For Adam that is the same, and the model stays an ordinary Transformer,
which exports, decoders and checkpoints know.
"""

from gptexp.model.config import TransformerConfig


def width_ratio(config: TransformerConfig) -> float:
    """Return d_model / base_width; 1 without a base_width."""
    return config.d_model / (config.base_width or config.d_model)


def norm_gain(config: TransformerConfig, name: str) -> float:
    """Return the initial weight of a norm; `name` is that of its module."""
    if name == "norm":
        return 1 / width_ratio(config)
    if name.endswith(".query_norm"):
        return ((config.base_head_dim or config.head_dim) / config.head_dim) ** 0.5
    return 1.0


def rate_scale(config: TransformerConfig, name: str, ndim: int) -> float:
    """Return the factor of Adam's learning rate of a parameter."""
    if "blocks." in name and ndim >= 2:
        return 1 / width_ratio(config)
    return norm_gain(config, name.rpartition(".")[0])
