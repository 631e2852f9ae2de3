"""Settings of the Transformer. The defaults are those of the preset `modern`, which is the architecture of Qwen3."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes and switches of a Transformer.

    arch: decoder (causal), prefix (causal, and bidirectional inside the prompt; arXiv 1910.10683), encoder
    (bidirectional), encoder_decoder (a decoder that attends to an encoder's memory; Vaswani et al. 2017).
    """

    vocab_size: int
    layers: int
    d_model: int
    heads: int
    kv_heads: int
    d_ff: int
    context: int
    arch: str = "decoder"  # decoder | prefix | encoder | encoder_decoder
    head_dim: int = 0  # 0: d_model / heads
    dropout: float = 0.0
    position: str = "rotary"  # learned | rotary | sinusoidal
    norm: str = "rms"  # layer | rms
    norm_eps: float = 1e-6
    feed_forward: str = "swiglu"  # gelu | swiglu | relu2
    qk_norm: bool = True
    bias: bool = False
    tie_embeddings: bool = True
    rope_theta: float = 10000.0
    rope_scaling: tuple[tuple[str, float], ...] = ()  # Llama 3's, as sorted (name, value) pairs
    experts: int = 0  # of each block, among which a router chooses; 0: one feed-forward
    experts_per_token: int = 2  # experts that a token is sent to
    shared_experts: int = 0  # further experts, which compute every token
    balance_loss: float = 0.01  # weight of the load-balancing loss
    window: int | None = None  # keys that a query sees in sliding-window layers, itself included
    window_pattern: str = "S"  # repeated over the layers: S slides, L sees the whole sequence
    initialisation: str = "zero"  # gpt2 | zero
    num_sequence_classes: int = 0  # classes of a pair of texts; 2 for next-sentence prediction
    num_token_classes: int = 0  # outputs of a tag head, which replaces that of the vocabulary
    feature_size: int = 0  # channels of a row of features, such as a patch of an image; 0: none
    feature_bins: int = 256  # values of a channel
    predicts_features: bool = False  # the model predicts rows of features instead of tokens

    def __post_init__(self) -> None:
        if not self.head_dim:
            object.__setattr__(self, "head_dim", self.d_model // self.heads)
        if not self.window_pattern or set(self.window_pattern) - {"S", "L"}:
            raise ValueError(
                f"window_pattern={self.window_pattern}: must consist of the letters S (sliding) and L "
                "(the whole sequence), for example SSSL"
            )
        if self.experts and not 2 <= self.experts_per_token <= self.experts:
            raise ValueError(  # the weight of a single expert would be 1, and its router would not learn
                f"experts_per_token={self.experts_per_token}: must be between 2 and experts={self.experts}"
            )
        if self.experts and self.bias:
            raise ValueError(f"experts={self.experts} with bias=True: experts have no biases")

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
