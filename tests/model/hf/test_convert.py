"""Our models and those of transformers, which are the reference: same logits, same greedy text, both ways."""

import json
from dataclasses import dataclass

import pytest
import torch
import transformers
from models import GPT2, SHAPE, a_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from gptexp.model import SequenceLayout, Transformer, TransformerConfig
from gptexp.model.attention import Attention
from gptexp.model.hf import convert

SCALED = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
# width, heads, key/value heads, layers, vocabulary, tied
SHAPES = [
    (32, 4, 4, 1, 64, True),
    (32, 4, 2, 2, 101, False),
    (48, 3, 1, 2, 101, True),
    (24, 2, 2, 3, 257, False),
    (64, 8, 2, 2, 97, True),
]
KINDS = ["gpt2", "qwen3", "llama", "llama3", "mistral", "mixtral", "qwen3_moe"]


pytestmark = pytest.mark.usefixtures("quiet_transformers")


def published(kind, folder, shape=SHAPES[1], **more):
    """A random model of transformers, written to a folder by transformers."""
    width, heads, kv_heads, layers, vocabulary, tied = shape
    more = {
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        "eos_token_id": None,
        "bos_token_id": None,
    } | more
    gated = {
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "num_hidden_layers": layers,
        "intermediate_size": 40,
        "max_position_embeddings": 64,
    } | more
    torch.manual_seed(len(kind) + width)
    match kind:
        case "gpt2":
            model = transformers.GPT2LMHeadModel(
                transformers.GPT2Config(
                    n_embd=width, n_head=heads, n_layer=layers, n_positions=64, **more
                )
            )
        case "qwen3":
            model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(head_dim=16, **gated))
        case "llama":
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**gated))
        case "mixtral":
            model = transformers.MixtralForCausalLM(
                transformers.MixtralConfig(num_local_experts=3, **gated)
            )
        case "qwen3_moe":
            experts = {"num_experts": 5, "num_experts_per_tok": 3, "moe_intermediate_size": 24}
            model = transformers.Qwen3MoeForCausalLM(
                transformers.Qwen3MoeConfig(**experts, norm_topk_prob=True, **gated)
            )
        case "mistral":
            model = transformers.MistralForCausalLM(
                transformers.MistralConfig(sliding_window=8, **gated)
            )
        case "llama3":
            model = transformers.LlamaForCausalLM(
                transformers.LlamaConfig(rope_parameters=SCALED, **gated)
            )
    randomise(model).save_pretrained(folder)
    return model


def randomise(model):
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@torch.no_grad()
def greedy(model, tokens, count=50):
    for _ in range(count):
        tokens = torch.cat((tokens, model.head(model(tokens)[:, -1:]).argmax(dim=-1)), dim=1)
    return tokens


@torch.no_grad()
def assert_same(ours, theirs, atol=1e-5):
    tokens = torch.randint(ours.config.vocab_size, (2, 33))
    torch.testing.assert_close(ours.head(ours(tokens)), theirs(tokens).logits, atol=atol, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_transformers_comes_in_and_goes_out_again(kind, shape, tmp_path):
    theirs = published(kind, tmp_path, shape)
    ours = convert.load(tmp_path)
    assert_same(ours, theirs)
    prompt = torch.randint(ours.config.vocab_size, (2, 5))
    assert torch.equal(
        greedy(ours, prompt), theirs.generate(prompt, max_new_tokens=50, do_sample=False)
    )
    (tmp_path / "again").mkdir()
    convert.save(ours, tmp_path / "again")
    written, again = (
        load_file(folder / "model.safetensors") for folder in (tmp_path, tmp_path / "again")
    )
    assert written.keys() == again.keys()
    assert all(torch.equal(written[name], again[name]) for name in written)
    assert_same(ours, AutoModelForCausalLM.from_pretrained(tmp_path / "again"))


OURS = {
    "gpt2": GPT2,
    "qwen3": {"head_dim": 10, "tie_embeddings": False},
    "llama": {
        "qk_norm": False,
        "bias": True,
        "rope_scaling": tuple(
            (key, SCALED[key]) for key in sorted(SCALED) if key not in ("rope_type", "rope_theta")
        ),
    },
    "qwen3-window": {"window": 5, "window_pattern": "SL"},
    "qwen3-windows": {"window": 5, "layers": 3, "window_pattern": "SLL", "context": 64},
    "mistral": {"window": 5, "qk_norm": False},
    "qwen3_moe": {"experts": 4, "experts_per_token": 3},
    "qwen3_moe-window": {"experts": 4, "window": 5, "head_dim": 10},
    "mixtral": {"experts": 4, "qk_norm": False, "tie_embeddings": False},
    "mixtral-window": {"experts": 4, "qk_norm": False, "window": 5, "norm_eps": 1e-5},
    "eurobert": {"arch": "encoder", "qk_norm": False},
    "pegasus-untied": GPT2
    | {
        "arch": "encoder_decoder",
        "position": "sinusoidal",
        "norm_eps": 1e-5,
        "tie_embeddings": False,
    },
    "pegasus": GPT2 | {"arch": "encoder_decoder", "position": "sinusoidal", "norm_eps": 1e-5},
}


@pytest.mark.parametrize("kind", OURS)
@torch.no_grad()
def test_a_model_of_ours_goes_out_and_comes_in_again(kind, tmp_path):
    ours = a_model(**OURS[kind])
    architecture = convert.save(ours, tmp_path, eos_token_id=3, decoder_start_token_id=7)
    assert (
        architecture.model_type
        == json.loads((tmp_path / "config.json").read_text())["model_type"]
        == kind.split("-")[0]
    )
    theirs = getattr(transformers, architecture.auto_class).from_pretrained(tmp_path)
    again = convert.load(tmp_path)
    assert all(
        torch.equal(ours.state_dict()[name], tensor) for name, tensor in again.state_dict().items()
    )
    source, target = torch.randint(50, (2, 11)), torch.randint(50, (2, 6))
    for model in (ours, again):
        if model.encoder is None:
            expected, states = theirs(source).logits, model(source)
        else:
            expected = theirs(source, decoder_input_ids=target).logits
            states = model(target, memory=model.encode(source, torch.tensor([11, 11])))
        torch.testing.assert_close(model.head(states), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_padding_means_the_same_to_encoders(tmp_path):
    ours = a_model(**OURS["pegasus"])
    convert.save(ours, tmp_path, pad_token_id=0, decoder_start_token_id=7)
    theirs = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    source, lengths = torch.randint(1, 50, (2, 9)), torch.tensor([9, 5])
    mask = torch.arange(9)[None] < lengths[:, None]
    tokens, memory = torch.full((2, 1), 7), ours.encode(source, lengths)
    expected = theirs.generate(
        source, attention_mask=mask.long(), max_new_tokens=12, do_sample=False, eos_token_id=None
    )
    for _ in range(12):
        next_token = ours.head(ours(tokens, memory=memory)[:, -1:]).argmax(dim=-1)
        tokens = torch.cat((tokens, next_token), dim=1)
    assert torch.equal(tokens, expected)
    ours = a_model(**OURS["eurobert"])
    convert.save(ours, tmp_path)
    theirs = AutoModelForMaskedLM.from_pretrained(tmp_path)
    expected = theirs(source, attention_mask=mask.long()).logits
    logits = ours.head(ours(source, SequenceLayout(lengths=lengths)))
    torch.testing.assert_close(logits[mask], expected[mask], atol=1e-5, rtol=1e-5)


def test_older_files_are_read_too(tmp_path):
    """GPT-2's own has no prefix and holds its masks; configs of transformers 4 have rope_theta and rope_scaling."""
    theirs = published("gpt2", tmp_path)
    weights = {
        name.removeprefix("transformer."): tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    save_file(weights | {"h.0.attn.bias": torch.ones(1, 1, 64, 64)}, tmp_path / "model.safetensors")
    edit(tmp_path, n_ctx=64, activation_function="gelu_new", n_inner=None)
    assert_same(convert.load(tmp_path), theirs)
    theirs = published("qwen3_moe", tmp_path)
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace("num_local_experts", "num_experts"))
    assert_same(convert.load(tmp_path), theirs)
    theirs = published("llama3", tmp_path)
    rope = dict(SCALED)
    edit(
        tmp_path,
        rope_parameters=None,
        rope_theta=rope.pop("rope_theta"),
        rope_scaling=rope,
        head_dim=None,
    )
    assert_same(convert.load(tmp_path), theirs)


def test_shards_are_read(tmp_path):
    theirs = published("qwen3", tmp_path)
    theirs.save_pretrained(tmp_path, max_shard_size="20kB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    (tmp_path / "model.safetensors").unlink()
    assert_same(convert.load(tmp_path), theirs)
    next(iter(sorted(tmp_path.glob("model-*.safetensors")))).unlink()
    with pytest.raises(OSError, match="model-00001"):
        convert.load(tmp_path)


def test_weights_in_bf16_are_computed_with_in_fp32(tmp_path):
    convert.save(a_model(context=64), tmp_path, torch.bfloat16)
    assert_same(
        convert.load(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    )
    assert AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.bfloat16


def edit(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("gpt2", {"activation_function": "relu"}, "activation_function=relu"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
        (
            "qwen3",
            {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["chunked"] * 2},
            "layer_types of chunked",
        ),
        ("qwen3", {"attention_bias": True}, "attention_bias=True"),
        ("qwen3_moe", {"norm_topk_prob": False}, "norm_topk_prob=False"),
        ("qwen3_moe", {"mlp_only_layers": [1]}, "mlp_only_layers=.1."),
        ("mixtral", {"num_local_experts": 2}, "experts.2.w1.weight has no place"),
        ("llama", {"mlp_bias": True}, "attention_bias=False with mlp_bias=True"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "type yarn"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        (
            "llama",
            {"model_type": "mamba"},
            "model_type=mamba.*Allowed: gpt2, qwen3, qwen3_moe, llama, mistral, mixtral, eurobert, pegasus",
        ),
        ("llama", {"hidden_size": 64}, "q_proj.weight is"),
        ("llama", {"num_hidden_layers": 1}, "layers.1.input_layernorm.weight has no place"),
    ],
)
def test_what_computes_something_else_is_refused(kind, changes, reason, tmp_path):
    published(kind, tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(ValueError, match=reason):
        convert.load(tmp_path)


@pytest.mark.parametrize(
    ("more", "windows"),
    [
        ({"max_window_layers": 2}, (0, 0)),
        ({"max_window_layers": 1}, (0, 8)),
        ({"layer_types": ["sliding_attention", "full_attention"]}, (8, 0)),
        ({"sliding_window": 64, "max_window_layers": 0}, (0, 0)),  # as long as the context
    ],
)
def test_sliding_windows_of_some_layers_come_in(more, windows, tmp_path):
    theirs = published(
        "qwen3", tmp_path, **{"use_sliding_window": True, "sliding_window": 8, **more}
    )
    ours = convert.load(tmp_path)
    assert ours.config.windows == windows
    assert_same(ours, theirs)


def test_pickled_and_damaged_weights_are_refused(tmp_path):
    published("gpt2", tmp_path)
    data = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="damaged"):
        convert.load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pytorch_model.bin only.*any code"):
        convert.load(tmp_path)


@pytest.mark.parametrize(
    ("switches", "reason"),
    [
        ({"arch": "prefix"}, "causal mask gives other logits.*arch=prefix"),
        ({"feed_forward": "relu2"}, "feed_forward=relu2"),
        ({"arch": "encoder"}, "EuroBertForMaskedLM, does not have qk_norm=True"),
        ({"arch": "encoder", "qk_norm": False, "num_token_classes": 3}, "num_token_classes=3"),
        (
            {"arch": "encoder", "qk_norm": False, "num_sequence_classes": 2},
            "num_sequence_classes=2",
        ),
        ({"arch": "encoder_decoder"}, "Pegasus.*norm=rms"),
        (OURS["pegasus"] | {"position": "learned"}, "position=learned"),
        (
            {"qk_norm": False, "bias": True, "d_model": 30, "head_dim": 8},
            "LlamaFor.*d_model=30 for heads=4",
        ),
        (GPT2 | {"kv_heads": 2}, "kv_heads=2"),
        ({"experts": 4, "shared_experts": 1}, "Qwen3Moe.*shared_experts=1"),
        (
            {"experts": 4, "window": 5, "window_pattern": "SL"},
            "Qwen3ForCausalLM, does not have experts=4",
        ),
        ({"experts": 4, "arch": "encoder"}, "experts=4"),
        (GPT2 | {"window": 5}, "GPT2.*window=5 with window_pattern=S"),
        (
            {"qk_norm": False, "window": 5, "window_pattern": "SL"},
            "window=5 with window_pattern=SL|qk_norm=False",
        ),
    ],
)
def test_what_transformers_does_not_have_is_refused(switches, reason):
    with pytest.raises(ValueError, match=reason):
        convert.architecture_of(a_model(**{"kv_heads": 4, **switches}))


@dataclass
class NewConfig(TransformerConfig):
    attention_sinks: int = 0


class NewAttention(Attention):
    pass


class NewTransformer(Transformer):
    attention_class = NewAttention


def test_a_switch_or_a_class_that_no_exporter_knows_is_refused(tmp_path):
    plain = Transformer(NewConfig(**SHAPE))
    assert convert.architecture_of(plain).model_type == "qwen3"
    with pytest.raises(ValueError, match="Qwen3ForCausalLM, does not have attention_sinks=4"):
        convert.save(Transformer(NewConfig(**SHAPE, attention_sinks=4)), tmp_path)
    with pytest.raises(ValueError, match="transformers has no NewAttention, NewTransformer"):
        convert.save(NewTransformer(TransformerConfig(**SHAPE)), tmp_path)
    assert not list(tmp_path.iterdir())
