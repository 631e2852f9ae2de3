"""Architectures of transformers: their names for our settings and modules, and what else they require.

Names and defaults are those of transformers' own classes and files. An exporter knows the settings and the classes that
are listed here, and refuses every other one.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from gptexp.model.attention import Attention
from gptexp.model.feed_forward import FeedForward
from gptexp.model.mixture_of_experts import ExpertLinear, MixtureOfExperts
from gptexp.model.norm import RMSNorm
from gptexp.model.positions import Rotary
from gptexp.model.token_loss import Head
from gptexp.model.transformer import Block, Encoder, Transformer

CLASSES = {
    *(Transformer, Encoder, Block, Attention, FeedForward, MixtureOfExperts, ExpertLinear),
    *(RMSNorm, Rotary, Head, nn.Linear, nn.Embedding, nn.LayerNorm, nn.Dropout, nn.ModuleList),
}
# Settings that do not change what a trained model computes, alone or unless another listed setting is on.
WITHOUT_INFLUENCE = {
    "dropout",
    "initialisation",
    "base_width",
    "balance_loss",
    "experts_per_token",
    "feature_bins",
}
# Settings of rotary positions and of windows, which config_json.py translates.
TRANSLATED = {"rope_theta", "rope_scaling", "window", "window_pattern"}


@dataclass(frozen=True)
class Architecture:
    """One class of transformers.

    name: of the class. model_type: in config.json. auto_class: that loads it.
    fixed_settings: settings of ours that it has no name for, with their only values.
    settings: our name -> their names; where there are several, their values must be equal.
    modules: our name -> theirs. A star stands for the layer, a hash for the expert. Modules that share a name of
        theirs are stacked by rows.
    required_hf_values: settings of theirs, with the values that compute the same as ours; we write the first.
    hf_defaults: values that transformers takes where config.json does not name a setting.
    older_names: their names, with those that transformers 4 has for them; we write both.
    transposed: pattern of their modules whose weights are [in, out]; by default it matches none.
    needs_whole_heads: transformers refuses a width that is no multiple of the number of heads.
    is_quantizable: all its matrices belong to linear layers and embeddings, which transformers reads in int8.
    windows: which layers can slide: none, all of them with one window, or those that `layer_types` names.
    """

    name: str
    model_type: str
    auto_class: str
    fixed_settings: dict[str, Any]
    settings: dict[str, str]
    modules: dict[str, str]
    required_hf_values: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    hf_defaults: dict[str, Any] = field(default_factory=dict)
    older_names: dict[str, str] = field(default_factory=dict)
    transposed: str = "$^"
    needs_whole_heads: bool = True
    is_quantizable: bool = False
    windows: Literal["", "all layers", "by layer"] = ""


DECODER = {"arch": "decoder", "num_token_classes": 0, "num_sequence_classes": 0, "feature_size": 0}
GPT2 = Architecture(
    "GPT2LMHeadModel",
    "gpt2",
    "AutoModelForCausalLM",
    fixed_settings=DECODER
    | {
        "position": "learned",
        "norm": "layer",
        "feed_forward": "gelu",
        "qk_norm": False,
        "bias": True,
    },
    settings={
        "vocab_size": "vocab_size",
        "layers": "n_layer",
        "d_model": "n_embd",
        "heads": "n_head",
        "d_ff": "n_inner",
        "context": "n_positions",
        "norm_eps": "layer_norm_epsilon",
        "tie_embeddings": "tie_word_embeddings",
    },
    modules={
        "embedding": "transformer.wte",
        "positions": "transformer.wpe",
        "blocks.*.attention_norm": "transformer.h.*.ln_1",
        "blocks.*.attention.query": "transformer.h.*.attn.c_attn",
        "blocks.*.attention.key": "transformer.h.*.attn.c_attn",
        "blocks.*.attention.value": "transformer.h.*.attn.c_attn",
        "blocks.*.attention.output": "transformer.h.*.attn.c_proj",
        "blocks.*.feed_forward_norm": "transformer.h.*.ln_2",
        "blocks.*.feed_forward.up": "transformer.h.*.mlp.c_fc",
        "blocks.*.feed_forward.down": "transformer.h.*.mlp.c_proj",
        "norm": "transformer.ln_f",
        "head": "lm_head",
    },
    required_hf_values={
        "activation_function": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    hf_defaults={"n_inner": None, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True},
    transposed=r"\.(attn|mlp)\.",
)

LLAMA_FAMILY = {"position": "rotary", "norm": "rms", "feed_forward": "swiglu"}
GATED_SETTINGS = {
    "vocab_size": "vocab_size",
    "layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "d_ff": "intermediate_size",
    "context": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
}
GATED_MODULES = {
    "embedding": "model.embed_tokens",
    "blocks.*.attention_norm": "model.layers.*.input_layernorm",
    "blocks.*.attention.query": "model.layers.*.self_attn.q_proj",
    "blocks.*.attention.key": "model.layers.*.self_attn.k_proj",
    "blocks.*.attention.value": "model.layers.*.self_attn.v_proj",
    "blocks.*.attention.output": "model.layers.*.self_attn.o_proj",
    "blocks.*.feed_forward_norm": "model.layers.*.post_attention_layernorm",
    "blocks.*.feed_forward.gate": "model.layers.*.mlp.gate_proj",
    "blocks.*.feed_forward.up": "model.layers.*.mlp.up_proj",
    "blocks.*.feed_forward.down": "model.layers.*.mlp.down_proj",
    "norm": "model.norm",
    "head": "lm_head",
}
HF_DEFAULTS = {
    "num_key_value_heads": None,
    "head_dim": None,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
QWEN3 = Architecture(
    "Qwen3ForCausalLM",
    "qwen3",
    "AutoModelForCausalLM",
    fixed_settings=DECODER | LLAMA_FAMILY | {"qk_norm": True, "bias": False},
    settings=GATED_SETTINGS,
    modules=GATED_MODULES
    | {
        "blocks.*.attention.query_norm": "model.layers.*.self_attn.q_norm",
        "blocks.*.attention.key_norm": "model.layers.*.self_attn.k_norm",
    },
    required_hf_values={"hidden_act": ("silu", "swish"), "attention_bias": (False,)},
    hf_defaults=HF_DEFAULTS
    | {"num_key_value_heads": 32, "head_dim": 128, "max_window_layers": 28}
    | {"use_sliding_window": False, "sliding_window": 4096},
    needs_whole_heads=False,
    is_quantizable=True,
    windows="by layer",
)
LLAMA = Architecture(
    "LlamaForCausalLM",
    "llama",
    "AutoModelForCausalLM",
    fixed_settings=DECODER | LLAMA_FAMILY | {"qk_norm": False},
    settings=GATED_SETTINGS | {"bias": "attention_bias mlp_bias"},
    modules=GATED_MODULES,
    required_hf_values={"hidden_act": ("silu", "swish")},
    hf_defaults=HF_DEFAULTS | {"attention_bias": False, "mlp_bias": False},
    is_quantizable=True,
)
QWEN3_MOE = Architecture(
    "Qwen3MoeForCausalLM",
    "qwen3_moe",
    "AutoModelForCausalLM",
    fixed_settings=QWEN3.fixed_settings,
    settings=QWEN3.settings
    | {
        "d_ff": "moe_intermediate_size",
        "experts": "num_local_experts",
        "experts_per_token": "num_experts_per_tok",
    },
    modules=QWEN3.modules
    | {
        "blocks.*.feed_forward.router": "model.layers.*.mlp.gate",
        "blocks.*.feed_forward.gate": "model.layers.*.mlp.experts.#.gate_proj",
        "blocks.*.feed_forward.up": "model.layers.*.mlp.experts.#.up_proj",
        "blocks.*.feed_forward.down": "model.layers.*.mlp.experts.#.down_proj",
    },
    required_hf_values=QWEN3.required_hf_values
    | {"norm_topk_prob": (True,), "decoder_sparse_step": (1,), "mlp_only_layers": ([], None)},
    hf_defaults=QWEN3.hf_defaults
    | {"num_key_value_heads": 4, "head_dim": None, "norm_topk_prob": False}
    | {"num_local_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768},
    older_names={"num_local_experts": "num_experts"},
    needs_whole_heads=False,
    windows="all layers",
)
MISTRAL = Architecture(
    "MistralForCausalLM",
    "mistral",
    "AutoModelForCausalLM",
    fixed_settings=DECODER | LLAMA_FAMILY | {"qk_norm": False, "bias": False},
    settings=GATED_SETTINGS,
    modules=GATED_MODULES,
    required_hf_values={"hidden_act": ("silu", "swish")},
    hf_defaults=HF_DEFAULTS | {"num_key_value_heads": 8, "sliding_window": 4096},
    is_quantizable=True,
    windows="all layers",
)
MIXTRAL = Architecture(
    "MixtralForCausalLM",
    "mixtral",
    "AutoModelForCausalLM",
    fixed_settings=MISTRAL.fixed_settings,
    settings=GATED_SETTINGS
    | {"experts": "num_local_experts", "experts_per_token": "num_experts_per_tok"},
    modules=GATED_MODULES
    | {
        "blocks.*.feed_forward.router": "model.layers.*.block_sparse_moe.gate",
        "blocks.*.feed_forward.gate": "model.layers.*.block_sparse_moe.experts.#.w1",
        "blocks.*.feed_forward.up": "model.layers.*.block_sparse_moe.experts.#.w3",
        "blocks.*.feed_forward.down": "model.layers.*.block_sparse_moe.experts.#.w2",
    },
    required_hf_values=MISTRAL.required_hf_values,
    hf_defaults=HF_DEFAULTS
    | {"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e6}
    | {"num_local_experts": 8, "num_experts_per_tok": 2},
    windows="all layers",
)
EUROBERT = Architecture(
    "EuroBertForMaskedLM",
    "eurobert",
    "AutoModelForMaskedLM",
    fixed_settings=DECODER | LLAMA_FAMILY | {"arch": "encoder", "qk_norm": False, "bias": False},
    settings=GATED_SETTINGS,
    modules=GATED_MODULES,
    required_hf_values={
        "hidden_act": ("silu", "swish"),
        "attention_bias": (False,),
        "mlp_bias": (False,),
    },
    hf_defaults=HF_DEFAULTS | {"rms_norm_eps": 1e-5},
    is_quantizable=True,
)

ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
PEGASUS_BLOCK = {
    "attention_norm": "self_attn_layer_norm",
    **{f"attention.{ours}": f"self_attn.{theirs}" for ours, theirs in ATTENTION.items()},
    "cross_norm": "encoder_attn_layer_norm",
    **{f"cross_attention.{ours}": f"encoder_attn.{theirs}" for ours, theirs in ATTENTION.items()},
    "feed_forward_norm": "final_layer_norm",
    "feed_forward.up": "fc1",
    "feed_forward.down": "fc2",
}
PEGASUS = Architecture(
    "PegasusForConditionalGeneration",
    "pegasus",
    "AutoModelForSeq2SeqLM",
    fixed_settings=GPT2.fixed_settings
    | {"arch": "encoder_decoder", "position": "sinusoidal", "norm_eps": 1e-5},
    settings={
        "vocab_size": "vocab_size",
        "layers": "encoder_layers decoder_layers",
        "d_model": "d_model",
        "heads": "encoder_attention_heads decoder_attention_heads",
        "d_ff": "encoder_ffn_dim decoder_ffn_dim",
        "context": "max_position_embeddings",
        "tie_embeddings": "tie_word_embeddings",
    },
    modules={
        "embedding": "model.shared",
        **{
            f"encoder.blocks.*.{ours}": f"model.encoder.layers.*.{theirs}"
            for ours, theirs in PEGASUS_BLOCK.items()
        },
        "encoder.norm": "model.encoder.layer_norm",
        **{
            f"blocks.*.{ours}": f"model.decoder.layers.*.{theirs}"
            for ours, theirs in PEGASUS_BLOCK.items()
        },
        "norm": "model.decoder.layer_norm",
        "head": "lm_head",
    },
    required_hf_values={
        "activation_function": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"),
        "scale_embedding": (True,),
    },
    hf_defaults={
        "activation_function": "gelu",
        "scale_embedding": False,
        "tie_word_embeddings": True,
    },
)
ARCHITECTURES = (GPT2, QWEN3, QWEN3_MOE, LLAMA, MISTRAL, MIXTRAL, EUROBERT, PEGASUS)
