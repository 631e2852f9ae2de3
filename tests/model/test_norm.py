import torch

from gptexp.model.norm import RMSNorm


def test_a_norm_keeps_the_precision_of_its_input_where_autocast_would_not():
    """torch 2.12 computes rms_norm in fp32 under autocast on CUDA; here autocast on the CPU does so."""

    def in_fp32(x, shape, weight=None, eps=None):
        with torch.autocast("cpu", enabled=False):
            return torch.rms_norm(x.float(), shape, weight.float(), eps)

    norm = RMSNorm(8)
    x = torch.randn(2, 8)
    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("rms_norm", in_fp32, "AutocastCPU", allow_override=True)
        with torch.autocast("cpu", torch.bfloat16):
            plain = torch.nn.functional.rms_norm(x.bfloat16(), (8,), norm.weight.bfloat16())
            assert plain.dtype == torch.float32
            assert norm(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(norm(x), torch.nn.functional.rms_norm(x, (8,)))
