"""The CPU decoder against the reference, and the models that it leaves to the reference."""

from dataclasses import dataclass

import pytest
import torch
from models import EXPERTS, KINDS, PROMPTS, SHAPE, a_model, generate

from gptexp.generation import cpu_decoder
from gptexp.generation.cpu_decoder import CpuDecoder
from gptexp.generation.decode_state import DecodeState
from gptexp.generation.generator import Generator
from gptexp.generation.prompt import Prompt
from gptexp.generation.supported_models import find_unsupported
from gptexp.model import Transformer, TransformerConfig, lora
from gptexp.model.feed_forward import FeedForward


def differences(model, decoder, prompts=PROMPTS):
    """Largest differences to the model's own logits over some steps, relative to the largest logit."""
    prompts = [Prompt(tuple(prompt)) for prompt in prompts]
    ours, theirs = DecodeState(model, prompts, 10, decoder), DecodeState(model, prompts, 10)
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
    ("weights", "least", "most"), [("float32", 0, 2e-6), ("bfloat16", 1e-4, 0.02)]
)
@pytest.mark.parametrize(
    "kind",
    [
        *KINDS,
        {"window": 3, "window_pattern": "SL"},
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
def test_a_product_is_exact_in_fp32_and_close_in_bf16(shape, rows):
    torch.manual_seed(0)
    weight, x, y = torch.randn(shape), torch.randn(rows, shape[1]), torch.randn(rows, shape[0])
    x[:, 0] *= 50  # an outlier
    exact = x.double() @ weight.double().T
    for pack, tolerance in ((cpu_decoder.pack_float32, 1e-6), (cpu_decoder.pack_bfloat16, 5e-3)):
        linear = pack(weight, rows)
        for added in (None, y, y[0]):
            expected = exact if added is None else exact + added
            assert (linear(x, added) - expected).norm() / exact.norm() < tolerance


def test_builds_without_onednn_use_documented_operators(monkeypatch):
    model = a_model(d_model=512, d_ff=512)  # large enough for oneDNN's layout
    used = []
    monkeypatch.setattr(cpu_decoder, "_onednn", used.append)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    for weights, most in (("float32", 2e-6), ("bfloat16", 0.02)):
        assert differences(model, CpuDecoder(model, weights, rows=3)) < most
    assert not used


def test_packed_weights_are_used_again_and_auto_chooses_a_format():
    model = a_model()
    expected = generate(model, PROMPTS, 10)
    generator = Generator(model, eos=-1)
    prompts = [Prompt(tuple(prompt)) for prompt in PROMPTS]
    assert [generator.generate(prompts, 10) for _ in range(2)] == [expected] * 2
    decoder = CpuDecoder.for_model(model, "auto", rows=3)
    assert decoder is not None
    assert decoder.weights in ("float32", "bfloat16")


def test_adapted_layers_are_left_to_the_model():
    model = a_model()
    lora.add(model, 2, 4.0, ["query"])
    for block in model.blocks:
        torch.nn.init.normal_(block.attention.query.lora_b)
    adapted = generate(model, PROMPTS, 10)
    with pytest.raises(ValueError, match="with a module of class LoraLinear"):
        generate(model, PROMPTS, 10, weights="bfloat16")
    lora.merge(model)
    assert generate(model, PROMPTS, 10) == adapted


def test_experts_are_left_to_the_model():
    model = a_model(**EXPERTS)
    assert CpuDecoder.for_model(model, "auto", rows=1) is None
    with pytest.raises(
        ValueError, match=r"weights=bfloat16: not for a model with model\.experts=4"
    ):
        CpuDecoder(model, "bfloat16")


@dataclass
class NewSwitch(TransformerConfig):
    parallel_blocks: bool = False


@pytest.mark.parametrize("is_on", [False, True])
def test_a_switch_that_the_decoder_does_not_list_is_left_to_the_model(is_on):
    model = a_model()
    model.config = NewSwitch(**SHAPE, parallel_blocks=is_on)
    assert (CpuDecoder.for_model(model, "float32", rows=1) is None) == is_on
    if is_on:
        with pytest.raises(ValueError, match=r"a model with model\.parallel_blocks=True"):
            CpuDecoder(model)


def test_a_value_that_the_decoder_does_not_list_is_left_to_the_model():
    model = a_model()
    object.__setattr__(model.config, "feed_forward", "geglu")
    assert find_unsupported(model) == "model.feed_forward=geglu"


class Negated(FeedForward):
    def forward(self, x):
        return -super().forward(x)


class NegatedTransformer(Transformer):
    feed_forward_class = Negated


def test_a_subclass_is_left_to_the_model():
    model = NegatedTransformer(TransformerConfig(**SHAPE))
    assert find_unsupported(model) == "a module of class NegatedTransformer"
    model = a_model()
    model.blocks[1].feed_forward = Negated(model.config)
    assert find_unsupported(model) == "a module of class Negated"
    assert CpuDecoder.for_model(model, "float32", rows=1) is None


def test_hooks_and_other_precisions_are_left_to_the_model():
    model = a_model()
    hook = model.blocks[0].register_forward_hook(lambda *call: call[-1] * 2)
    assert find_unsupported(model) == "a forward hook on Block"
    hook.remove()
    assert find_unsupported(model) is None
    assert find_unsupported(model.bfloat16()) == "parameters in torch.bfloat16 on cpu"
