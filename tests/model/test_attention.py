import pytest
import torch

from gptexp.model import TransformerConfig, attention
from gptexp.model.attention import Attention, AttentionContext, attend
from gptexp.model.masks import AttentionMask


def test_attention_is_the_formula():
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=1, layers=1, d_model=8, heads=2, kv_heads=1, d_ff=1, context=5, qk_norm=False
    )
    attention = Attention(config, layer=0)
    x = torch.randn(1, 5, 8)
    query = attention.query(x).view(5, 2, 4)
    key, value = attention.key(x)[0], attention.value(x)[0]  # one head, shared by both query heads
    weights = []
    for head in range(2):
        scores = query[:, head] @ key.T / 4**0.5
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
        weights.append(scores.softmax(dim=-1))
    context = AttentionContext(AttentionMask(is_causal=True))
    torch.testing.assert_close(
        attention(x, context)[0],
        attention.output(torch.cat([head @ value for head in weights], dim=-1)),
    )
    torch.testing.assert_close(attention.weights(x, context)[0], torch.stack(weights))


@pytest.mark.parametrize("masked", [False, True])
def test_single_steps_in_bf16_follow_the_fused_kernel(masked, monkeypatch):
    torch.manual_seed(0)
    mask = torch.rand(3, 1, 20, 20) < 0.7 if masked else None
    if mask is not None:
        mask |= torch.eye(20, dtype=torch.bool)
    shapes = ((3, 4, 20, 8), (3, 2, 20, 8), (3, 2, 20, 8))
    results = []
    inputs = [torch.randn(shape).bfloat16() for shape in shapes]
    for limit in (attention.EAGER_ATTENTION_MAX_SCORES, 0):
        monkeypatch.setattr(attention, "EAGER_ATTENTION_MAX_SCORES", limit)
        leaves = [x.clone().requires_grad_() for x in inputs]
        y = attend(*leaves, AttentionMask(mask, is_causal=True))
        y.float().square().sum().backward()
        results.append([y, *(x.grad for x in leaves)])
    for ours, fused in zip(*results, strict=True):
        torch.testing.assert_close(ours, fused, atol=0.06, rtol=0.05)
