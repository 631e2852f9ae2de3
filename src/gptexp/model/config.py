"""Settings of the Transformer. The defaults are those of the preset `modern`, which is the architecture of Qwen3."""

from dataclasses import dataclass

from gptexp.switches import Switches


@dataclass(kw_only=True)
class TransformerConfig(Switches):
    """Sizes and switches of a Transformer."""

    vocab_size: int
    layers: int
    d_model: int
    heads: int
    kv_heads: int
    d_ff: int
    context: int
    position: str = "rotary"  # learned | rotary | sinusoidal
    norm: str = "rms"  # layer | rms
    norm_eps: float = 1e-6
    feed_forward: str = "swiglu"  # gelu | swiglu | relu2
    qk_norm: bool = True
    bias: bool = False
    tie_embeddings: bool = True
    rope_scaling: tuple[tuple[str, float], ...] = ()  # Llama 3's, as sorted (name, value) pairs
    initialisation: str = "zero"  # gpt2 | zero
    num_sequence_classes: int = 0  # classes of a pair of texts; 2 for next-sentence prediction
    num_token_classes: int = 0  # outputs of a tag head, which replaces that of the vocabulary
    feature_size: int = 0  # channels of a row of features, such as a patch of an image; 0: none
    feature_bins: int = 256  # values of a channel
    predicts_features: bool = False  # the model predicts rows of features instead of tokens

    def __post_init__(self) -> None:
        self.head_dim = self.head_dim or self.d_model // self.heads
        self.check_switches(self.bias)

    @property
    def windows(self) -> tuple[int, ...]:
        """The window of each layer; 0: it sees the whole sequence."""
        pattern, window = self.window_pattern, self.window or 0
        letters = (pattern[layer % len(pattern)] for layer in range(self.layers))
        return tuple(window if letter == "S" else 0 for letter in letters)

    @property
    def encoder_layers(self) -> int:
        """Number of blocks of the encoder of an encoder_decoder; 0 for the others."""
        return self.layers if self.arch == "encoder_decoder" else 0
