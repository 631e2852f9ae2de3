import pytest
import torch
from models import EXPERTS, GPT2, a_model
from torch.utils._python_dispatch import TorchDispatchMode

from gptexp.model import mixture_of_experts
from gptexp.model.activation_checkpointing import checkpoint_activations
from gptexp.training.compilation import compile_model

PAIR = {"arch": "encoder_decoder"}


def gradients(model):
    torch.manual_seed(1)
    tokens, targets = torch.randint(50, (2, 12)), torch.randint(50, (2, 12))
    prefix = torch.full((2,), 4) if model.encoder else None
    loss = model.loss(tokens, targets, prefix=prefix)
    (loss.targets + loss.auxiliary).backward()
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("kind", ["full", "selective"])
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("switches", [{}, {"dropout": 0.1, **GPT2}, EXPERTS, PAIR])
def test_recomputed_activations_give_the_same_gradients(switches, bf16, kind):
    found = []
    for recomputes in ("none", kind):
        model = a_model(**switches).train()
        names = list(model.state_dict())
        checkpoint_activations(model, recomputes)
        assert list(model.state_dict()) == names
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found.append(gradients(model))
    for plain, again in zip(*found, strict=True):
        assert torch.equal(plain, again)


class CountProducts(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.products = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.products += function in (torch.ops.aten.mm.default, torch.ops.aten._grouped_mm.default)
        return function(*args, **kwargs or {})


def test_selective_computes_no_product_of_experts_again(monkeypatch):
    monkeypatch.setattr(mixture_of_experts, "GROUPED_DEVICES", ("cpu",))
    counts = []
    for kind in ("none", "selective", "full"):
        model = a_model(**EXPERTS).train()
        checkpoint_activations(model, kind)
        with CountProducts() as counter, torch.autocast("cpu", torch.bfloat16):
            gradients(model)
        counts.append(counter.products)
    assert counts[0] == counts[1] < counts[2]


@pytest.mark.parametrize(
    ("word", "kind"), [("true", "full"), ("false", "none"), ("selective", "selective")]
)
def test_true_and_false_are_full_and_none(word, kind, tiny):
    config = tiny(f"trainer.activation_checkpointing={word}")
    assert config.trainer.activation_checkpointing == kind


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at it
@pytest.mark.parametrize("way", ["selective", "budget"])
def test_a_compiled_block_recomputes_in_one_graph(way):
    sizes = []

    def note(tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            sizes.append(tensor.nbytes)
        return tensor

    models = [a_model(layers=1).train() for _ in range(2)]
    with torch._functorch.config.patch(activation_memory_budget=1.0):
        torch._dynamo.reset()
        if way == "selective":
            checkpoint_activations(models[1], way)
            models[1].blocks[0].compile(backend="aot_eager", fullgraph=True)
        else:
            compile_model(models[1], has_fixed_lengths=True, memory_budget=0.2, backend="aot_eager")
        kept, found = [], []
        for model in models:
            sizes.clear()
            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                found.append(gradients(model))
            kept.append(sum(sizes))
    torch.testing.assert_close(*found)
    assert kept[1] < 0.6 * kept[0], kept
