from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters
from torch.distributed.fsdp import fully_shard
from torch.nn.attention import flex_attention
from torch.nn.parallel import DistributedDataParallel

from gptexp.distributed.launcher import _free_port
from gptexp.model import Transformer, TransformerConfig, lora, token_loss
from gptexp.model.activation_checkpointing import checkpoint_activations
from gptexp.training import compilation
from gptexp.training.compilation import can_use_flex_attention, compile_model, needs_masks

pytestmark = [  # torch.compile looks at gradients and autograd's functions
    pytest.mark.filterwarnings("ignore:The .grad attribute"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated"),
]
SHAPE = {
    "vocab_size": 50,
    "layers": 2,
    "d_model": 16,
    "heads": 2,
    "kv_heads": 1,
    "d_ff": 32,
    "context": 64,
}


@pytest.fixture(autouse=True)
def restore_settings():
    """Undo the settings of torch that compile_model changes, and forget its graphs."""
    with torch._dynamo.config.patch(optimize_ddp=True, recompile_limit=8):
        torch._dynamo.reset()
        yield
    torch._dynamo.reset()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_compiled_block_is_one_graph_with_plain_names_on_several_ranks(strategy):
    model = Transformer(TransformerConfig(**SHAPE | {"d_model": 256, "d_ff": 1024}))
    names = list(model.state_dict())
    counter = CompileCounter()
    compile_model(model, has_fixed_lengths=True, backend=counter)
    assert list(model.state_dict()) == names
    port = str(_free_port())
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    try:
        parallel = model
        if strategy == "ddp":
            parallel = DistributedDataParallel(model, bucket_cap_mb=1)
        else:
            for block in model.blocks:
                fully_shard(block)
            fully_shard(model)
        with torch.autocast("cpu", torch.bfloat16):
            parallel(torch.randint(50, (2, 8))).sum().backward()
    finally:
        dist.destroy_process_group()
    assert counter.frame_count == 1


def test_masks_of_flex_attention_give_the_gradients_of_dense_ones(monkeypatch):
    # On a CPU, FlexAttention has a backward pass as plain operations, which it does not offer.
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)
    torch.manual_seed(0)
    switches = {"initialisation": "gpt2", "window": 3, "window_pattern": "SL"}
    model = Transformer(TransformerConfig(**SHAPE | switches))
    arguments, gradients = batch(["documents"], 12, sequences=3), []
    for is_compiled in (False, True):
        if is_compiled:
            compile_model(model, has_fixed_lengths=True, has_block_masks=True, backend="eager")
        model.zero_grad()
        model.loss(**arguments).targets.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)


# Switches, further inputs, and how many kinds of blocks there are.
KINDS = {
    "gpt2": ({"position": "learned", "norm": "layer", "bias": True, "dropout": 0.1}, [], 1),
    "lora": ({"feed_forward": "relu2"}, [], 2),  # the first block needs no gradient of its input
    "window of documents": ({"window": 4, "window_pattern": "SL"}, ["documents"], 2),
    "encoder_decoder": ({"arch": "encoder_decoder"}, ["prefix"], 2),
}


def batch(inputs, length, sequences):
    """Return the arguments of `loss` for a batch of this length."""
    tokens = torch.randint(0, 50, (sequences, length))
    lengths = torch.randint(4, length + 1, (sequences,))
    arguments = {"tokens": tokens, "lengths": lengths}
    arguments["targets"] = tokens.masked_fill(torch.arange(length) >= lengths[:, None], -100)
    if "prefix" in inputs:
        arguments["prefix"] = torch.randint(3, 5, (sequences,))
    if "documents" in inputs:
        arguments["documents"] = torch.arange(length).expand(sequences, -1) // 5
    return arguments


@pytest.mark.parametrize("kind", KINDS)
def test_training_has_one_graph_and_validation_another_whatever_the_lengths(kind):
    switches, inputs, kinds_of_blocks = KINDS[kind]
    model = Transformer(TransformerConfig(**SHAPE | {"kv_heads": 2} | switches))
    if kind == "lora":
        lora.add(model, rank=2, alpha=4, targets=["query", "down"])
    counter = CompileCounter()
    compile_model(model, has_fixed_lengths=False, backend=counter)
    counters["graph_break"].clear()
    for length in [*range(9, 27, 2), 9]:
        model.train()
        model.loss(**batch(inputs, length, sequences=5)).targets.backward()
        model.eval()
        with torch.no_grad():
            model.loss(**batch(inputs, length + 1, sequences=6))
    assert not counters["graph_break"]
    assert counter.frame_count <= 2 * (kinds_of_blocks + 1)  # head and loss are one more


def test_a_compiled_model_computes_the_gradients_of_a_plain_one(monkeypatch):
    monkeypatch.setattr(token_loss, "CPU_LOGITS", (500, 500))  # several chunks
    torch.manual_seed(0)
    gradients = []
    model = Transformer(TransformerConfig(**SHAPE | {"initialisation": "gpt2"}))
    checkpoint_activations(model, "full")
    arguments = batch([], 12, sequences=3)
    for is_compiled in (False, True):
        if is_compiled:
            compile_model(model, has_fixed_lengths=True, backend="aot_eager")
        model.zero_grad()
        model.loss(**arguments).targets.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)


STREAM, EXAMPLES = SimpleNamespace(stream=True), SimpleNamespace(stream=False)


@pytest.mark.parametrize(
    ("switches", "layout", "has_masks"),
    [
        ({}, STREAM, False),
        ({}, EXAMPLES, False),  # causal attention never sees right padding
        ({}, SimpleNamespace(stream=True, document_mask=True), True),
        ({"window": 4}, STREAM, True),
        ({"arch": "prefix"}, EXAMPLES, True),
        ({"arch": "encoder"}, STREAM, False),
        ({"arch": "encoder"}, EXAMPLES, True),
        ({"arch": "encoder_decoder"}, EXAMPLES, True),
    ],
)
def test_masks_are_those_that_kernels_of_attention_do_not_know(switches, layout, has_masks):
    assert needs_masks(TransformerConfig(**SHAPE | switches), layout) == has_masks


def test_attention_keeps_dense_masks_where_flex_attention_does_not_work(monkeypatch, capsys):
    config, cuda = TransformerConfig(**SHAPE | {"head_dim": 16}), torch.device("cuda")
    monkeypatch.setattr(compilation, "_run_flex_attention", lambda *_: None)
    assert can_use_flex_attention(config, cuda)
    assert not can_use_flex_attention(config, torch.device("cpu"))
    assert not can_use_flex_attention(replace(config, dropout=0.1), cuda)
    assert not can_use_flex_attention(replace(config, head_dim=8), cuda)
    assert capsys.readouterr().err == ""

    def fail(*_):
        raise RuntimeError("out of shared memory\nand more")

    monkeypatch.setattr(compilation, "_run_flex_attention", fail)
    assert not can_use_flex_attention(config, cuda)
    assert capsys.readouterr().err.endswith("FlexAttention fails here (out of shared memory)\n")
    assert not can_use_flex_attention(config, cuda, prints=False)  # on other ranks
    assert capsys.readouterr().err == ""
