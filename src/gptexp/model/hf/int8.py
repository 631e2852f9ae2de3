"""Matrices in int8 with a scale for each row: a quarter of fp32. base loses 0.0002 nats a token (docs/decisions.md).

The files have the format `int-quantized` of the package compressed-tensors, with which transformers reads them, too.
gptexp computes in fp32: a matrix is multiplied by its scales when it is read.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gptexp.model.hf.architectures import Architecture
from gptexp.stored_tensors import Region, StoredTensor

LARGEST = 127  # of the integers; -128 is not used, so that the range is symmetric
SCALE = "_scale"  # suffix of the tensor that holds the scales, [O, 1], of a matrix [O, I]
WEIGHTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
QUANTIZATION_CONFIG = {  # an entry of config.json
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "dequantize": True,
    "config_groups": {"group_0": {"targets": ["Linear", "Embedding"], "weights": WEIGHTS}},
}


def check_quantizable(architecture: Architecture) -> None:
    """Refuse an architecture with other matrices than those of linear layers and embeddings.

    Raises:
        ValueError: it has such matrices.
    """
    if not architecture.is_quantizable:
        raise ValueError(
            f"{architecture.name} has matrices that transformers does not read in int8; use bfloat16"
        )


def quantize(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with each matrix in int8, its scales beside it, and vectors in fp32."""
    quantized = {}
    for name, tensor in weights.items():
        quantized[name] = tensor
        if tensor.ndim == 2:
            quantized[name], quantized[name + SCALE] = _quantize_rows(tensor)
    return quantized


def round_matrix(matrix: Tensor) -> Tensor:
    """Return the fp32 values that a matrix has after it was quantized."""
    integers, scales = _quantize_rows(matrix)
    return integers.float() * scales


def _quantize_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return integers, [O, I], and the scale of each row, [O, 1].

    A scale has the precision of bf16, so that its products with the integers are exact in fp32, and quantizing them
    again changes nothing.
    """
    largest = matrix.float().abs().amax(dim=1, keepdim=True)
    scales = (largest / LARGEST).bfloat16().float()
    scales[scales == 0] = 1.0
    integers = (matrix / scales).round().clamp(-LARGEST, LARGEST)
    return integers.to(torch.int8), scales


def open_quantized(weights: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Return the tensors of a file with its int8 matrices in fp32, each multiplied by its scales when it is read."""
    scales = {
        name: weights[name + SCALE]
        for name, tensor in weights.items()
        if tensor.dtype == torch.int8
        and name + SCALE in weights
        and weights[name + SCALE].shape == (tensor.shape[0], 1)
    }
    return {
        name: _dequantize(tensor, scales[name]) if name in scales else tensor
        for name, tensor in weights.items()
        if name.removesuffix(SCALE) not in scales or name in scales
    }


def _dequantize(integers: StoredTensor, scales: StoredTensor) -> StoredTensor:
    def read(region: Region) -> Tensor:
        return integers.read(region).float() * scales.read((region[0], slice(0, 1))).float()

    return StoredTensor(integers.shape, torch.float32, read)


def describe_unread(quantization: Any) -> str | None:
    """Return how weights are quantized in a way that gptexp does not read; None: it reads them.

    Args:
        quantization: the entry `quantization_config` of config.json.
    """
    settings = quantization if isinstance(quantization, dict) else {}
    method, file_format = settings.get("quant_method"), settings.get("format")
    if method != QUANTIZATION_CONFIG["quant_method"]:
        return str(method)
    if file_format != QUANTIZATION_CONFIG["format"]:
        return f"{method}, format {file_format}"
    for group in settings.get("config_groups", {}).values():
        weights = group.get("weights") or {}
        wrong = [f"{key}={weights.get(key)}" for key in WEIGHTS if weights.get(key) != WEIGHTS[key]]
        wrong += [part for part in ("input_activations", "output_activations") if group.get(part)]
        if wrong:
            return f"{method}, {', '.join(wrong)}"
    return None
