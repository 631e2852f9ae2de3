import sys

import pytest
import torch
import torch.distributed as dist
from torch._dynamo.testing import CompileCounter
from torch.nn.parallel import DistributedDataParallel

from gptexp.distributed.compiler import check_compiler, compile_blocks
from gptexp.distributed.launcher import _free_port
from gptexp.errors import UserError
from gptexp.model import Transformer, TransformerConfig


@pytest.mark.parametrize("code", [0, 1])
def test_a_machine_that_cannot_compile_is_refused_with_the_reason(code, own_folder, monkeypatch):
    program = own_folder / "python"
    program.write_text(f"#!/bin/sh\necho No working compiler; exit {code}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    if code == 0:
        check_compiler("cpu")
        return
    with pytest.raises(UserError, match=r"trainer\.compile=true: .*\(No working compiler\)"):
        check_compiler("cpu")


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at it
def test_a_compiled_block_is_one_graph_with_plain_names_also_under_ddp(monkeypatch):
    monkeypatch.setattr(torch._dynamo.config, "optimize_ddp", True)
    model = Transformer(
        TransformerConfig(
            vocab_size=50, layers=1, d_model=256, heads=2, kv_heads=2, d_ff=1024, context=8
        )
    )
    names = list(model.state_dict())
    counter = CompileCounter()
    compile_blocks(model.blocks, counter)
    tokens = torch.randint(50, (2, 8))
    port = str(_free_port())
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    try:
        parallel = DistributedDataParallel(model, bucket_cap_mb=1)
        with torch.autocast("cpu", torch.bfloat16):
            parallel(tokens).sum().backward()
    finally:
        dist.destroy_process_group()
    assert counter.frame_count == 1
    assert list(model.state_dict()) == names
