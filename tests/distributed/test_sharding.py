import torch
from torch import nn

from gptexp.distributed.sharding import clip_grad_norm, to_host


def test_gradients_are_clipped_by_their_norm_or_with_zero_left_alone():
    model = nn.Linear(3, 4)
    for max_norm, expected in ((0.0, 3.0), (1.0, 0.25)):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 3.0)
        versions = [parameter.grad._version for parameter in model.parameters()]
        assert clip_grad_norm(model.parameters(), max_norm) == 12.0
        for parameter, version in zip(model.parameters(), versions, strict=True):
            torch.testing.assert_close(parameter.grad, torch.full_like(parameter, expected))
            assert (parameter.grad._version == version) is (max_norm == 0)


def test_copies_of_parameters_belong_to_no_graph():
    """A callback may keep a parameter: its buffer would refer to all earlier copies."""
    parameter, buffers = nn.Parameter(torch.ones(2)), {}
    for kept in (buffers, buffers, None):
        copy = to_host("weight", parameter, kept)
        assert torch.equal(copy, torch.ones(2))
        assert not copy.requires_grad
