"""The Transformer in pure PyTorch: it knows nothing of Lightning, Hydra or the rest of gptexp."""

from gptexp.model.transformer import Transformer, TransformerConfig

__all__ = ["Transformer", "TransformerConfig"]
