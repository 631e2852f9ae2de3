"""The model: feed-forward layers with another gate than SwiGLU's (Shazeer 2020, arXiv 2002.05202)."""

from functools import partial

from torch import Tensor, nn

from gptexp.model import Transformer, TransformerConfig
from gptexp.model.feed_forward import FeedForward

ACTIVATIONS = {"none": nn.Identity, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}


class GluFeedForward(FeedForward):
    def __init__(self, config: TransformerConfig, gate: str) -> None:
        super().__init__(config)
        self.activation = ACTIVATIONS[gate]()

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, C] -> [B, T, C]."""
        return self.down(self.activation(self.gate(x)) * self.up(x))


class GluTransformer(Transformer):
    def __init__(self, config: TransformerConfig, gate: str) -> None:
        self.feed_forward_class = partial(GluFeedForward, gate=gate)
        super().__init__(config)
