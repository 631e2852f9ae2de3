"""Settings of the model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

from gptexp.config.group import GroupConfig
from gptexp.config.presets import ARCH_OVERRIDES, PRESETS
from gptexp.config.registry import register
from gptexp.errors import UserError
from gptexp.setting_field import setting
from gptexp.switches import Switches

if TYPE_CHECKING:
    from gptexp.config.schema import Config

ROPE_SCALING = {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}


@register
@dataclass
class ModelConfig(Switches, GroupConfig):
    """Settings of the Transformer: its sizes, what a preset decides where it is null, and the model's own switches.

    `target` is a Transformer, built with (TransformerConfig). The fields that a subclass adds are passed to it by name.
    """

    config_group: ClassVar[str] = "model"
    passed: ClassVar[tuple[str, ...]] = ("config",)
    target = "gptexp.model.transformer:Transformer"
    kind: str = setting("transformer", "name of the chosen kind of model")
    size: str = setting(MISSING, "name of the size; part of the run folder's name")
    preset: str = setting(
        "modern",
        "sets position, norm, norm_eps, feed_forward, qk_norm, bias, tie_embeddings and initialisation where null",
        choices=("modern", "gpt2"),
    )
    layers: int = setting(MISSING, "number of Transformer blocks", minimum=1)
    d_model: int = setting(MISSING, "width of the residual stream", minimum=1)
    heads: int = setting(MISSING, "number of attention heads", minimum=1)
    kv_heads: int | None = setting(
        None, "number of key and value heads; null: as many as heads", minimum=1
    )
    d_ff: int | None = setting(
        None,
        "inner width of the feed-forward layer, or of each expert; null: 4x d_model, or 8/3x for swiglu",
        minimum=1,
    )
    vocab_size: int | None = setting(
        None, "rows of the token embedding; null: as many as the tokenizer has tokens", minimum=1
    )
    context: int = setting(256, "longest sequence in tokens", minimum=2)
    position: str | None = setting(
        None, "position embedding", choices=("learned", "rotary", "sinusoidal")
    )
    norm: str | None = setting(None, "LayerNorm or RMSNorm", choices=("layer", "rms"))
    norm_eps: float | None = setting(None, "epsilon of the normalisation", minimum=0)
    feed_forward: str | None = setting(
        None, "activation of the feed-forward layer", choices=("gelu", "swiglu", "relu2")
    )
    qk_norm: bool | None = setting(None, "RMSNorm on the queries and keys of each head")
    bias: bool | None = setting(None, "linear layers have biases")
    tie_embeddings: bool | None = setting(None, "the output head shares the token embedding")
    initialisation: str | None = setting(
        None,
        "gpt2: small normal weights; zero: each block starts as the identity",
        choices=("gpt2", "zero"),
    )
    rope_scaling: dict[str, float] = setting(
        {}, "Llama 3's scaling of the rotary frequencies for longer contexts"
    )

    def resolve(self, config: "Config") -> None:
        # A tag head exists in no architecture of transformers: an encoder with one keeps the decoder's shape, so that
        # it can start from a decoder's weights.
        switches = PRESETS[self.preset]
        if not config.task.num_token_classes:
            switches = switches | ARCH_OVERRIDES.get((self.preset, self.arch), {})
        for name, value in switches.items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        self.kv_heads = self.kv_heads or self.heads
        if self.d_ff is None and self.feed_forward == "swiglu":
            # 8/3 keeps SwiGLU's three matrices at the size of GELU's two (arXiv 2002.05202).
            self.d_ff = -(-8 * self.d_model // 3 // 16) * 16
        elif self.d_ff is None:
            self.d_ff = 4 * self.d_model
        if not self.head_dim:
            if self.d_model % self.heads:
                raise UserError(
                    f"model.d_model={self.d_model} must be a multiple of model.heads={self.heads}"
                )
            self.head_dim = self.d_model // self.heads

    def check_vocab_size(self, num_tokens: int) -> None:
        """Check that the embedding has a row for each token of the tokenizer.

        Raises:
            UserError: it has fewer.
        """
        if self.vocab_size is not None and self.vocab_size < num_tokens:
            raise UserError(
                f"model.vocab_size={self.vocab_size}: the tokenizer has {num_tokens} tokens; "
                f"give at least that many rows"
            )

    def check(self, config: "Config") -> None:
        assert self.kv_heads is not None
        if self.heads % self.kv_heads:
            raise UserError(
                f"model.heads={self.heads} must be a multiple of model.kv_heads={self.kv_heads}"
            )
        if self.position == "rotary" and self.head_dim % 2:
            raise UserError(
                f"model.head_dim={self.head_dim}: rotary positions need an even one "
                f"(its default is model.d_model / model.heads)"
            )
        if self.rope_scaling and set(self.rope_scaling) != ROPE_SCALING:
            raise UserError(
                f"model.rope_scaling: give {', '.join(sorted(ROPE_SCALING))}, all of them"
            )
        try:
            self.check_switches(bool(self.bias), "model.")
        except ValueError as error:
            raise UserError(str(error)) from None
        self._check_width_transfer(config)
        if self.preset == "gpt2" and self.kv_heads != self.heads:
            raise UserError(
                f"model.kv_heads={self.kv_heads}: GPT-2 has one per head; use model.preset=modern"
            )

    def _check_width_transfer(self, config: "Config") -> None:
        """Refuse base_width where the rules of the width transfer do not say how weights have to scale."""
        if self.base_width is None:
            return
        start = f"model.base_width={self.base_width}: width transfer"
        if config.optim.kind not in ("adamw", "muon") or config.optim.lora_rank:
            raise UserError(f"{start} needs optim=adamw or optim=muon, with optim.lora_rank=0")
        if config.task.num_sequence_classes or config.task.feature_size:
            raise UserError(
                f"{start} does not know the additional weights of task={config.task.kind}"
            )
        if self.position == "sinusoidal":
            raise UserError(f"{start} needs model.position=rotary or model.position=learned")

    def adaptable_layers(self) -> list[str]:
        """Return the linear layers of a block that optim.lora_targets can name; those of experts cannot be adapted."""
        layers = ["query", "key", "value", "output"]
        if self.experts:
            return layers
        return [*layers, *(["gate"] if self.feed_forward == "swiglu" else []), "up", "down"]
