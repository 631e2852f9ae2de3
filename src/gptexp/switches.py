"""The switches of the Transformer that a config and the model share, so that each is declared once."""

from dataclasses import dataclass

from gptexp.setting_field import setting


@dataclass(kw_only=True)
class Switches:
    """Settings that have the same values in a config and in the Transformer: `ModelConfig` and `TransformerConfig`."""

    arch: str = setting(
        "decoder",
        "decoder: causal attention; prefix: causal, but bidirectional inside the prompt (arXiv 1910.10683); "
        "encoder: bidirectional; encoder_decoder: an encoder reads the prompt, a causal decoder attends to it",
        choices=("decoder", "prefix", "encoder", "encoder_decoder"),
    )
    head_dim: int = setting(0, "width of a head; 0: d_model / heads", minimum=0)
    dropout: float = setting(
        0.0, "dropout on embeddings, attention and residual branches", minimum=0, maximum=0.99
    )
    rope_theta: float = setting(10000.0, "base of the rotary frequencies", minimum=1)
    experts: int = setting(
        0,
        "number of experts in each block, among which a router chooses; 0: one feed-forward layer for all tokens",
        minimum=0,
    )
    experts_per_token: int = setting(
        2, "number of experts that the router sends each token to", minimum=2
    )
    shared_experts: int = setting(
        0, "number of further experts that compute every token", minimum=0
    )
    balance_loss: float = setting(
        0.01, "weight of the load-balancing loss of the experts (DeepSeek-V3)", minimum=0
    )
    window: int | None = setting(
        None,
        "size of the attention window of sliding-window layers in tokens, the token itself included; null: no window",
        minimum=1,
    )
    window_pattern: str = setting(
        "S",
        "kind of each layer, repeated over the layers: S attends to the window, L to all tokens; for example SSSL",
    )

    base_width: int | None = setting(
        None,
        "width transfer (muP): d_model of the model that the learning rates were tuned on. Rates and initial weights "
        "at other widths follow from it, so that the best rates stay; null: they are alike at every width",
        minimum=1,
    )

    def check_switches(self, has_biases: bool, prefix: str = "") -> None:
        """Refuse switches that contradict each other.

        Args:
            prefix: stands before the names of the switches in messages.

        Raises:
            ValueError: two of them do.
        """
        if self.experts and not 2 <= self.experts_per_token <= self.experts:
            raise ValueError(  # the weight of a single expert would be 1, and its router would not learn
                f"{prefix}experts_per_token={self.experts_per_token}: must be between 2 and "
                f"{prefix}experts={self.experts}"
            )
        if self.experts and has_biases:
            raise ValueError(
                f"{prefix}experts={self.experts}: experts have no biases; add {prefix}bias=false"
            )
        if not self.window_pattern or set(self.window_pattern) - {"S", "L"}:
            raise ValueError(
                f"{prefix}window_pattern={self.window_pattern}: must consist of S (sliding window) "
                f"and L (the whole sequence), for example SSSL"
            )
