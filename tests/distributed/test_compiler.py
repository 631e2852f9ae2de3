import sys
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from gptexp.config import compose
from gptexp.distributed import compiler
from gptexp.distributed.compiler import (
    check_compiler,
    compile_modules,
    find_missing_part,
    is_worth_compiling,
    should_compile,
)
from gptexp.distributed.launcher import _free_port
from gptexp.errors import UserError
from gptexp.model import Transformer, TransformerConfig, lora
from gptexp.model.activation_checkpointing import checkpoint_activations

SHAPE = {
    "vocab_size": 50,
    "layers": 2,
    "d_model": 16,
    "heads": 2,
    "kv_heads": 1,
    "d_ff": 32,
    "context": 64,
}
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def restore_settings():
    """Undo the settings of torch that compile_modules changes, and forget its graphs."""
    with torch._dynamo.config.patch(optimize_ddp=True, recompile_limit=8):
        torch._dynamo.reset()
        yield
    torch._dynamo.reset()


@pytest.fixture
def gpu_machine(monkeypatch):
    monkeypatch.setattr(compiler, "list_gpus", lambda: ["0"])
    monkeypatch.setattr(compiler, "find_missing_part", lambda: "")
    monkeypatch.setattr(compiler, "compile_example", lambda _: None)


@pytest.fixture(scope="module")
def configs():
    return {
        size: compose.compose_config(["task=summarize", "logger=none", f"model={size}"])
        for size in ("nano", "gpt2")
    }


@pytest.fixture
def config(configs):
    def build(size="nano", **trainer):
        return replace(configs[size], trainer=replace(configs[size].trainer, **trainer))

    return build


def blocks_of(model):
    return [*model.blocks, *(model.encoder.blocks if model.encoder else [])]


@pytest.mark.parametrize("code", [0, 1])
def test_a_machine_that_cannot_compile_is_refused_with_the_reason(
    code, config, own_folder, monkeypatch
):
    program = own_folder / "python"
    program.write_text(f"#!/bin/sh\necho No working compiler; exit {code}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    if code == 0:
        check_compiler(config(compile="true"))
        return
    with pytest.raises(UserError, match=r"trainer\.compile=true: .*\(No working compiler\)"):
        check_compiler(config(compile="true"))


@pytest.mark.usefixtures("gpu_machine")
def test_auto_compiles_long_trainings_on_a_gpu(config):
    assert should_compile(config("gpt2", max_steps=2000), CUDA)
    assert not should_compile(config("nano", max_steps=200), CUDA)
    assert should_compile(config("nano", max_steps=200, compile="true"), CUDA)
    assert not should_compile(config("gpt2", max_steps=2000, compile="false"), CUDA)
    assert not should_compile(config("gpt2", max_steps=2000), torch.device("cpu"))
    assert is_worth_compiling(config("nano", max_steps=20000))


@pytest.mark.usefixtures("gpu_machine")
def test_auto_says_in_one_line_that_it_finds_no_compiler(config, monkeypatch, capsys):
    long = config(max_steps=20000)
    check_compiler(long)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(compiler, "find_missing_part", lambda: "C compiler, such as gcc")
    for other in ({"compile": "false"}, {"accelerator": "cpu"}, {"max_steps": 10}):
        check_compiler(config(**{"max_steps": 20000} | other))
    assert capsys.readouterr().err == ""
    check_compiler(long)
    assert not should_compile(long, CUDA)
    line = "trainer.compile=auto: training is not compiled, and slower for it ("
    assert capsys.readouterr().err == f"{line}this machine has no C compiler, such as gcc)\n"
    monkeypatch.setattr(compiler, "find_missing_part", lambda: "")

    def fail(_):
        raise RuntimeError("ptxas is missing\nand more")

    monkeypatch.setattr(compiler, "compile_example", fail)
    assert not should_compile(long, CUDA)
    assert capsys.readouterr().err == f"{line}ptxas is missing)\n"


def test_the_parts_that_a_compiler_needs_are_named(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compiler.shutil, "which", lambda _: None)
    assert find_missing_part() == "C compiler, such as gcc"
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setattr(compiler.sysconfig, "get_path", lambda _: "/nowhere")
    assert find_missing_part().startswith("headers of Python")


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at it
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_compiled_block_is_one_graph_with_plain_names_on_several_ranks(strategy):
    model = Transformer(TransformerConfig(**SHAPE | {"d_model": 256, "d_ff": 1024}))
    names = list(model.state_dict())
    counter = CompileCounter()
    compile_modules(model.blocks, has_varying_lengths=False, backend=counter)
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


# Switches, further inputs, and how many kinds of blocks there are.
KINDS = {
    "gpt2": ({"position": "learned", "norm": "layer", "bias": True, "dropout": 0.1}, [], 1),
    "lora": ({"feed_forward": "relu2"}, [], 2),  # the first block needs no gradient of its input
    "window of documents": ({"window": 4, "window_pattern": "SL"}, ["documents"], 2),
    "prefix": ({"arch": "prefix"}, ["prefix"], 1),
    "encoder_decoder": ({"arch": "encoder_decoder"}, ["prefix"], 2),
}


def batch(kind, length, sequences):
    """Return the arguments of `loss` for a batch of this length."""
    tokens = torch.randint(0, 50, (sequences, length))
    lengths = torch.randint(4, length + 1, (sequences,))
    inputs, arguments = KINDS[kind][1], {"tokens": tokens, "lengths": lengths}
    arguments["targets"] = tokens.masked_fill(torch.arange(length) >= lengths[:, None], -100)
    if "prefix" in inputs:
        arguments["prefix"] = torch.randint(2, 4, (sequences,))
    if "documents" in inputs:
        arguments["documents"] = torch.arange(length).expand(sequences, -1) // 5
    return arguments


@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_have_a_graph_for_training_and_one_for_validation_whatever_the_lengths(kind):
    model = Transformer(TransformerConfig(**SHAPE | {"kv_heads": 2} | KINDS[kind][0]))
    if kind == "lora":
        lora.add(model, rank=2, alpha=4, targets=["query", "down"])
    counter = CompileCounter()
    compile_modules(blocks_of(model), has_varying_lengths=True, backend=counter)
    counters["graph_break"].clear()
    for length in [*range(9, 27, 2), 9]:
        model.train()
        model.loss(**batch(kind, length, sequences=4)).targets.backward()
        model.eval()
        with torch.no_grad():
            model.loss(**batch(kind, length + 1, sequences=3))
    assert not counters["graph_break"]
    assert counter.frame_count <= 2 * KINDS[kind][2]


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_compiled_blocks_with_activation_checkpointing_compute_the_gradients_of_plain_ones():
    torch.manual_seed(0)
    gradients = []
    model = Transformer(TransformerConfig(**SHAPE | {"initialisation": "gpt2"}))
    checkpoint_activations(model, "full")
    arguments = batch("gpt2", 12, sequences=3)
    for is_compiled in (False, True):
        if is_compiled:
            compile_modules(model.blocks, has_varying_lengths=False, backend="aot_eager")
        model.zero_grad()
        model.loss(**arguments).targets.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)
