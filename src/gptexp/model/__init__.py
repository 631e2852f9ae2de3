"""The Transformer in pure PyTorch: it knows nothing of Lightning, Hydra or the rest of gptexp."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptexp.model.config import TransformerConfig as TransformerConfig
    from gptexp.model.masks import SequenceLayout as SequenceLayout
    from gptexp.model.transformer import Transformer as Transformer

_MODULES = {  # imported on first use: the config reads model/config.py without torch
    "SequenceLayout": "gptexp.model.masks",
    "Transformer": "gptexp.model.transformer",
    "TransformerConfig": "gptexp.model.config",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'gptexp.model' has no attribute '{name}'")
