"""Models in the layout of transformers, in both directions: a folder with config.json and model.safetensors.

architectures.py has the names side by side. A model that transformers does not compute is refused with the reason,
never approximated.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gptexp.model.hf import config_json, int8
from gptexp.model.hf.architectures import CLASSES, Architecture
from gptexp.model.hf.config_json import read_config
from gptexp.model.hf.weights import from_hf_weights, open_weights, to_hf_weights
from gptexp.model.transformer import Transformer
from gptexp.stored_tensors import StoredTensor

__all__ = [
    "architecture_of",
    "load",
    "open_model",
    "read_config",
    "read_model",
    "round_weights",
    "save",
]


def architecture_of(model: Transformer) -> Architecture:
    """Return the architecture of transformers that computes what this model computes.

    Raises:
        ValueError: there is none; the message says which modules or settings are in the way.
    """
    architecture = config_json.architecture_of(model.config)
    if unknown := sorted({type(m).__name__ for m in model.modules() if type(m) not in CLASSES}):
        raise ValueError(f"transformers has no {', '.join(unknown)}")
    return architecture


def load(folder: Path) -> Transformer:
    """Load the model of a folder in the layout of transformers, in fp32 and in eval mode.

    Raises:
        ValueError: the architecture, a setting or the weights are not what we compute.
        OSError: a file is missing or unreadable.
    """
    return read_model(*open_model(folder))


def read_model(model: Transformer, weights: Mapping[str, StoredTensor]) -> Transformer:
    """Read the weights of a model on the meta device, in fp32, and return it in eval mode."""
    read = {
        name: tensor.read_all().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, tensor in weights.items()
    }
    model.load_state_dict(read, strict=False, assign=True)
    if model.config.tie_embeddings:
        model.head.weight = model.embedding.weight
    return model.eval()


def open_model(folder: Path) -> tuple[Transformer, dict[str, StoredTensor]]:
    """Return a model on the meta device, and its weights by name, which are not read yet.

    Raises:
        ValueError: the architecture, a setting or the weights are not what we compute.
        OSError: a file is missing or unreadable.
    """
    architecture, config = read_config(folder)
    with torch.device("meta"):
        model = Transformer(config)
    return model, from_hf_weights(architecture, model, open_weights(folder), folder)


def round_weights(model: Transformer, dtype: torch.dtype) -> None:
    """Round the weights of a model, in place, to the values that `save` writes in `dtype`.

    Raises:
        ValueError: the matrices of its architecture cannot be written in int8.
    """
    if dtype != torch.int8:
        model.to(dtype).float()
        return
    int8.check_quantizable(architecture_of(model))
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data = int8.round_matrix(parameter.data)


def save(
    model: Transformer, folder: Path, dtype: torch.dtype = torch.float32, **more: Any
) -> Architecture:
    """Write config.json and model.safetensors as transformers reads them.

    Args:
        dtype: of the weights; int8: of the matrices, with vectors in fp32.
        more: further entries of config.json, such as eos_token_id.

    Raises:
        ValueError: no architecture of transformers computes this model, or not with matrices in int8.
    """
    architecture = architecture_of(model)
    values = config_json.to_hf_config(architecture, model.config)
    if dtype == torch.int8:
        int8.check_quantizable(architecture)
        weights = int8.quantize(to_hf_weights(architecture, model, torch.float32))
        values |= {"dtype": "float32", "quantization_config": int8.QUANTIZATION_CONFIG}
    else:
        weights = to_hf_weights(architecture, model, dtype)
        values["dtype"] = str(dtype).removeprefix("torch.")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    values |= more
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n", "utf8")
    return architecture
