"""Matrices in int8: the error of a value, and files that others wrote."""

import copy

import pytest
import torch
from safetensors.torch import save_file

from gptexp.model.hf import int8
from gptexp.model.hf.weights import open_weights


@pytest.fixture
def matrix():
    torch.manual_seed(0)
    matrix = torch.randn(6, 40) * torch.logspace(-6, 3, 6)[:, None]  # rows of very different size
    matrix[2] = 0
    return matrix


def test_a_value_is_off_by_half_a_step_of_its_row_at_most(matrix):
    rounded = int8.round_matrix(matrix)
    steps = matrix.abs().amax(dim=1, keepdim=True) / 127
    assert ((rounded - matrix).abs() <= 0.51 * steps).all()
    assert (rounded[2] == 0).all()


def test_rounding_again_changes_nothing(matrix):
    rounded = int8.round_matrix(matrix)
    assert torch.equal(int8.round_matrix(rounded), rounded)


def test_any_region_of_a_file_is_read_in_fp32(matrix, own_folder):
    vector = torch.randn(5)
    save_file(int8.quantize({"a": matrix, "b": vector}), own_folder / "model.safetensors")
    weights = open_weights(own_folder)
    assert set(weights) == {"a", "b"}
    rounded = int8.round_matrix(matrix)
    assert torch.equal(weights["a"].read_all(), rounded)
    assert torch.equal(weights["b"].read_all(), vector)
    assert torch.equal(weights["a"].read((slice(3, 5), slice(7, 20))), rounded[3:5, 7:20])


@pytest.mark.parametrize(
    ("keys", "value", "description"),
    [
        (["quant_method"], "gptq", "gptq"),
        (["format"], "pack-quantized", "compressed-tensors, format pack-quantized"),
        (["config_groups", "group_0", "weights", "num_bits"], 4, "compressed-tensors, num_bits=4"),
        (
            ["config_groups", "group_0", "input_activations"],
            {"num_bits": 8},
            "compressed-tensors, input_activations",
        ),
    ],
)
def test_weights_in_another_format_are_described(keys, value, description):
    config = copy.deepcopy(int8.QUANTIZATION_CONFIG)
    assert int8.describe_unread(config) is None
    part = config
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    assert int8.describe_unread(config) == description
