import pytest
import torch
from models import EXPERTS, KINDS, PROMPTS, a_model, generate

from gptexp.generation.cpu import matmul
from gptexp.generation.cpu.decoder import CpuDecoder
from gptexp.generation.decode_state import DecodeState
from gptexp.generation.generator import Generator
from gptexp.generation.prompt import Prompt
from gptexp.model import lora


def differences(model, fast, prompts=PROMPTS):
    """Largest differences to the model's own logits over some steps, relative to the largest logit."""
    prompts = [Prompt(tuple(prompt)) for prompt in prompts]
    ours, theirs = DecodeState(model, prompts, 10, fast), DecodeState(model, prompts, 10)
    worst = 0.0
    with torch.inference_mode():
        for _ in range(8):
            tokens = theirs.logits.argmax(dim=-1)
            ours.step(tokens)
            theirs.step(tokens)
            worst = max(
                worst, float((ours.logits - theirs.logits).abs().max() / theirs.logits.abs().max())
            )
    return worst


@pytest.mark.parametrize(
    ("weights", "least", "most"),
    [("float32", 0, 2e-6), ("bfloat16", 1e-4, 0.02), ("int8", 1e-4, 0.03)],
)
@pytest.mark.parametrize(
    "kind",
    [
        *KINDS,
        {
            "kv_heads": 1,
            "head_dim": 16,
            "rope_scaling": (
                ("factor", 8.0),
                ("high_freq_factor", 4.0),
                ("low_freq_factor", 1.0),
                ("original_max_position_embeddings", 16),
            ),
        },
    ],
)
def test_the_logits_are_those_of_the_model(kind, weights, least, most):
    model = a_model(**kind)
    assert least <= differences(model, CpuDecoder(model, weights, rows=3)) < most
    assert differences(model, CpuDecoder(model, weights, rows=1), PROMPTS[:1]) < most


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("shape", [(48, 16), (16, 48), (640, 512)])
def test_a_product_is_exact_in_fp32_and_close_in_other_formats(shape, rows):
    torch.manual_seed(0)
    weight, x, y = torch.randn(shape), torch.randn(rows, shape[1]), torch.randn(rows, shape[0])
    x[:, 0] *= 50  # an outlier
    exact = x.double() @ weight.double().T
    for form, error in ((matmul.float32, 1e-6), (matmul.bfloat16, 5e-3), (matmul.int8, 1e-2)):
        product = form(weight, rows)
        for added in (None, y, y[0]):
            wanted = exact if added is None else exact + added
            assert (product(x, added) - wanted).norm() / exact.norm() < error
    # int8 loses what the weights are rounded by, and next to nothing more; without products of bytes, x goes in bf16.
    more = 3e-4 if matmul._int8_matmul_is_exact() else 5e-3
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    rounded = (weight / scale).round() * scale
    assert (matmul.int8(weight, rows)(x, None) - x @ rounded.T).norm() / exact.norm() < more


def test_other_processors_and_builds_have_other_kernels(monkeypatch):
    monkeypatch.setattr(matmul, "_int8_matmul_is_exact", lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    model = a_model()
    for weights, most in (("float32", 2e-6), ("bfloat16", 0.02), ("int8", 0.04)):
        assert differences(model, CpuDecoder(model, weights, rows=3)) < most


def test_packed_weights_can_be_used_again_and_the_fastest_chosen():
    model = a_model()
    expected = generate(model, PROMPTS, 10, -1)
    generator = Generator(model, eos=-1)
    prompts = [Prompt(tuple(prompt)) for prompt in PROMPTS]
    assert [generator.generate(prompts, 10) for _ in range(2)] == [expected] * 2
    chosen = CpuDecoder.for_model(model, "auto", rows=3)
    assert chosen.weights in ("float32", "bfloat16", "int8")


def test_adapted_layers_are_left_to_the_model():
    model = a_model()
    lora.add(model, 2, 4.0, ["query"])
    for block in model.blocks:
        torch.nn.init.normal_(block.attention.query.lora_b)
    adapted = generate(model, PROMPTS, 10, -1)
    with pytest.raises(ValueError, match="weights=int8: packs plain layers on a CPU"):
        generate(model, PROMPTS, 10, -1, weights="int8")
    lora.merge(model)
    assert generate(model, PROMPTS, 10, -1) == adapted


def test_experts_are_left_to_the_model():
    model = a_model(**EXPERTS)
    assert CpuDecoder.for_model(model, "auto", 1) is None
    with pytest.raises(ValueError, match="weights=int8: packs plain layers on a CPU"):
        CpuDecoder(model, "int8")
