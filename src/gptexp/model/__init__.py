"""The Transformer in pure PyTorch: it knows nothing of Lightning, Hydra or the rest of gptexp."""

from gptexp.model.config import TransformerConfig
from gptexp.model.masks import SequenceLayout
from gptexp.model.transformer import Transformer

__all__ = ["SequenceLayout", "Transformer", "TransformerConfig"]
