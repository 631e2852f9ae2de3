"""The model: feed-forward layers with another gate than SwiGLU's (Shazeer 2020, arXiv 2002.05202), and its loss."""

from functools import partial

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

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
    def __init__(self, config: TransformerConfig, gate: str, smoothing: float) -> None:
        self.feed_forward_class = partial(GluFeedForward, gate=gate)
        super().__init__(config)
        self.smoothing = smoothing

    def token_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """logits [N, V], targets [N] -> the sum of their losses."""
        smoothing = self.smoothing if self.training else 0.0
        return cross_entropy(logits.float(), targets, reduction="sum", label_smoothing=smoothing)
