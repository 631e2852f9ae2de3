"""Settings of the model."""

from dataclasses import dataclass

from omegaconf import MISSING

from gptexp.config.setting import option


@dataclass
class ModelConfig:
    size: str = option(MISSING, "name of the size; part of the run folder's name")
    arch: str = option(
        "decoder",
        "prefix: a decoder that sees all of the given text; encoder: sees everything",
        choices=("decoder", "prefix", "encoder", "encoder_decoder"),
    )
    preset: str = option(
        "modern", "sets every switch below that is null", choices=("modern", "gpt2")
    )
    layers: int = option(MISSING, "Transformer blocks", minimum=1)
    d_model: int = option(MISSING, "width of the residual stream (d_model, n_embd)", minimum=1)
    heads: int = option(MISSING, "attention heads", minimum=1)
    kv_heads: int | None = option(
        None, "key and value heads; fewer than heads is grouped attention", minimum=1
    )
    head_dim: int = option(0, "size of a head; 0: width / heads", minimum=0)
    d_ff: int | None = option(
        None, "inner width of the feed-forward; null: 4x (gelu) or 8/3x (swiglu)", minimum=1
    )
    vocab_size: int | None = option(
        None, "rows of the token embedding; null: as many as the tokenizer has tokens", minimum=1
    )
    context: int = option(256, "longest sequence, in tokens", minimum=2)
    dropout: float = option(
        0.0, "dropout on embeddings, attention and residual branches", minimum=0, maximum=0.99
    )
    position: str | None = option(
        None, "how positions enter", choices=("learned", "rotary", "sinusoidal")
    )
    norm: str | None = option(None, "normalisation", choices=("layer", "rms"))
    norm_eps: float | None = option(
        None, "what keeps the normalisation from dividing by zero", minimum=0
    )
    feed_forward: str | None = option(None, "feed-forward", choices=("gelu", "swiglu", "relu2"))
    qk_norm: bool | None = option(None, "RMSNorm on queries and keys of each head")
    bias: bool | None = option(None, "biases in linear layers")
    tie_embeddings: bool | None = option(None, "output head shares the token embedding")
    window: int | None = option(
        None,
        "tokens that a token attends to in sliding-window layers, itself included; null: all",
        minimum=1,
    )
    window_pattern: str = option(
        "S", "repeated over the layers: S has the window, L attends to everything, such as SSSL"
    )
    initialisation: str | None = option(
        None,
        "gpt2: small normal weights; zero: blocks that start as the identity",
        choices=("gpt2", "zero"),
    )
    rope_theta: float = option(10000.0, "base of the rotary frequencies", minimum=1)
    rope_scaling: dict[str, float] = option(
        {}, "Llama 3's scaling of the rotary frequencies, for longer contexts"
    )
