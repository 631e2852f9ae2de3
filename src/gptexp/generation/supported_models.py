"""The models that the fast decoders compute.

cpu_decoder.py and gpu_decoder.py leave all other models to model/transformer.py.
"""

from collections.abc import Collection
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from gptexp.model.attention import Attention
from gptexp.model.features import FeatureEmbedding
from gptexp.model.feed_forward import FeedForward
from gptexp.model.norm import RMSNorm
from gptexp.model.positions import Rotary
from gptexp.model.token_loss import Head
from gptexp.model.transformer import Block, Encoder, Transformer

ANY = object()
# Settings that the decoders compute, with the values that they compute. A model with another setting that is not at its
# default, or with a module or parameter of another class, is left to the reference.
SUPPORTED_SETTINGS: dict[str, Any] = {
    "vocab_size": ANY,
    "layers": ANY,
    "d_model": ANY,
    "heads": ANY,
    "kv_heads": ANY,
    "head_dim": ANY,
    "d_ff": ANY,
    "context": ANY,
    "arch": ("decoder", "prefix", "encoder_decoder"),
    "position": ("rotary", "learned", "sinusoidal"),
    "rope_theta": ANY,
    "rope_scaling": ANY,
    "norm": ("rms", "layer"),
    "norm_eps": ANY,
    "qk_norm": ANY,
    "feed_forward": ("swiglu", "gelu", "relu2"),
    "experts": (0,),
    "experts_per_token": ANY,  # these have no effect without experts
    "shared_experts": ANY,
    "balance_loss": ANY,
    "bias": ANY,
    "tie_embeddings": ANY,
    "window": ANY,
    "window_pattern": ANY,
    "feature_size": ANY,  # rows of features stand in prompts only
    "feature_bins": ANY,
    "predicts_features": (False,),
    "num_sequence_classes": ANY,  # a head that generation does not use
    "dropout": ANY,  # training only
    "initialisation": ANY,
    "base_width": ANY,
}
SUPPORTED_CLASSES = {
    *(Transformer, Encoder, Block, Attention, FeedForward, FeatureEmbedding, Rotary, RMSNorm),
    *(nn.LayerNorm, nn.Linear, Head, nn.Embedding, nn.Dropout, nn.ModuleList),
}


def find_unsupported(
    model: Transformer, device: str = "cpu", dtypes: Collection[torch.dtype] = (torch.float32,)
) -> str | None:
    """Return the first property of a model that the decoder of a device does not compute, in words, or None.

    Args:
        dtypes: formats of the parameters that it computes with; all parameters have the same.
    """
    for setting in fields(model.config):
        value = getattr(model.config, setting.name)
        accepted = SUPPORTED_SETTINGS.get(setting.name, (setting.default,))
        if accepted is not ANY and value not in accepted:
            return f"model.{setting.name}={value}"
    for module in model.modules():
        if type(module) not in SUPPORTED_CLASSES:
            return f"a module of class {type(module).__name__}"
        if module._forward_hooks or module._forward_pre_hooks:
            return f"a forward hook on {type(module).__name__}"
    dtype = model.embedding.weight.dtype
    for parameter in model.parameters():
        if type(parameter) is not nn.Parameter:
            return f"a parameter of class {type(parameter).__name__}"
        is_supported = parameter.dtype == dtype and dtype in dtypes
        if parameter.device.type != device or not is_supported:
            return f"parameters in {parameter.dtype} on {parameter.device.type}"
    return None
