import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from models import EXPERTS, GPT2, a_model

from gptexp import extras
from gptexp.config.schema import TrainerConfig
from gptexp.distributed import devices, float8
from gptexp.distributed.devices import check_devices, lightning_precision
from gptexp.errors import UserError

FLOAT8 = "trainer.precision=float8"


@pytest.fixture
def torchao(monkeypatch):
    """A stand-in for torchao's module that notes the names of the layers that are converted."""
    module, converted = ModuleType("torchao.float8"), []

    def convert(model, config, module_filter_fn):
        assert config.pad_inner_dim
        converted.extend(name for name, x in model.named_modules() if module_filter_fn(x, name))

    module.convert_to_float8_training = convert
    module.Float8LinearConfig = lambda **settings: SimpleNamespace(**settings)
    monkeypatch.setitem(sys.modules, "torchao", ModuleType("torchao"))
    monkeypatch.setitem(sys.modules, "torchao.float8", module)
    monkeypatch.setattr(extras, "find_spec", lambda _: True)
    return converted


def test_linear_layers_of_blocks_multiply_in_float8_where_their_sizes_suit(torchao):
    float8.convert_to_float8(a_model(layers=1, **GPT2))
    layers = ("attention.query", "attention.key", "attention.value", "attention.output")
    expected = [*layers, "feed_forward.up", "feed_forward.down"]
    assert torchao == [f"blocks.0.{name}" for name in expected]
    torchao.clear()
    float8.convert_to_float8(a_model(layers=1, d_ff=40, **EXPERTS | {"experts": 16}))
    assert torchao == [f"blocks.0.{name}" for name in layers]


@pytest.mark.usefixtures("torchao")
def test_float8_needs_a_gpu_that_has_it(tiny, monkeypatch):
    config = tiny(FLOAT8).trainer
    assert lightning_precision(config.precision, torch.device("cuda")) == "bf16-mixed"
    with pytest.raises(
        UserError, match=r"8\.9 or more, such as H100 or L40S, and this run uses the"
    ):
        check_devices(config)
    monkeypatch.setattr(devices, "pick_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    with pytest.raises(UserError, match=r"A100 has 8\.0\. Use trainer\.precision=auto"):
        check_devices(config)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    check_devices(config)
    check_devices(TrainerConfig())


@pytest.mark.usefixtures("torchao")
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["trainer.strategy=fsdp", "trainer.tensor_parallel=2"], "use trainer.tensor_parallel=1"),
        (["optim=adamw", "init=base", "optim.lora_rank=2"], "use optim.lora_rank=0"),
    ],
)
def test_float8_refuses_what_it_does_not_go_together_with(words, reason, tiny):
    with pytest.raises(UserError, match=reason):
        tiny(FLOAT8, *words)


def test_float8_names_the_extra_that_it_needs(tiny, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"torchao: .* pip install 'gptexp\[float8\]'"):
        tiny(FLOAT8)
