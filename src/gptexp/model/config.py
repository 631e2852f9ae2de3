"""The switches of the Transformer. The defaults are those of `modern`, which is Qwen3's architecture."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes and switches.

    arch: decoder (each token sees those before it), prefix (and all of the given text; arXiv 1910.10683), encoder
    (all), encoder_decoder (a decoder that looks at an encoder's memory, as in Vaswani et al. 2017).
    """

    vocab_size: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    hidden: int
    context: int
    arch: str = "decoder"  # decoder | prefix | encoder | encoder_decoder
    head_size: int = 0  # 0: width / heads
    dropout: float = 0.0
    position: str = "rotary"  # learned | rotary | sinusoidal
    norm: str = "rms"  # layer | rms
    norm_eps: float = 1e-6
    feed_forward: str = "swiglu"  # gelu | swiglu | relu2
    qk_norm: bool = True
    bias: bool = False
    tied: bool = True
    rope_theta: float = 10000.0
    rope_scaling: tuple[tuple[str, float], ...] = ()  # of Llama 3, as sorted (name, value) pairs
    initialisation: str = "zero"  # gpt2 | zero
    classes: int = 0  # of a pair of texts: 2 for next-sentence prediction
    tags: int = 0  # outputs of the tag head, which then takes the place of the vocabulary's
    feature_size: int = 0  # channels of a row that is no text, such as a patch of a picture; 0: there are none
    feature_levels: int = 256  # values of a channel
    says_features: bool = False  # such rows are what is predicted, instead of tokens

    @property
    def head_width(self) -> int:
        return self.head_size or self.width // self.heads

    @property
    def encoder_layers(self) -> int:
        return self.layers if self.arch == "encoder_decoder" else 0
