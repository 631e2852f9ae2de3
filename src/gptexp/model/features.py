"""Features in and out of the Transformer: rows of quantized values, such as patches of an image or frames of audio.

A row is one position of the sequence. One linear layer embeds it, as in ViT (Dosovitskiy et al. 2020, arXiv
2010.11929). The head predicts a softmax over the bins of each channel, all channels at once, and whether the sequence
of rows ends (dMel, arXiv 2407.15835).

Legend: B sequences, F rows of the longest, N rows of all, D channels of a row, C width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptexp.model.config import TransformerConfig

CONTINUE = 0  # target of a position that another row follows; with any other the rows end


class FeatureEmbedding(nn.Module):
    """Embed rows of features, with a learned embedding for masked rows."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.highest = config.feature_bins - 1
        self.project = nn.Linear(config.feature_size, config.d_model)
        self.missing = None  # embedding of a masked row
        if config.predicts_features:
            self.missing = nn.Parameter(torch.zeros(config.d_model))

    def forward(self, rows: Tensor, is_masked: Tensor | None = None) -> Tensor:
        """Embed rows [N, D] -> [N, C]; those with is_masked [N] get a learned embedding."""
        x = self.project(rows.to(self.project.weight.dtype) * (2 / self.highest) - 1)
        if is_masked is None or self.missing is None:
            return x
        return torch.where(is_masked[:, None], self.missing.to(x.dtype), x)


class FeatureHead(nn.Module):
    """Predict the next row of features, and whether the rows end."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.size, self.bins = config.feature_size, config.feature_bins
        self.project = nn.Linear(config.d_model, self.size * self.bins + 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [..., C] -> [..., D * bins + 1]: logits of the bins of each channel, and of the end."""
        return self.project(hidden)

    def argmax_rows(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the likeliest next row [B, D], and whether the rows end [B], from logits [B, D * bins + 1]."""
        channels = logits[:, :-1].view(-1, self.size, self.bins)
        return channels.argmax(dim=-1).to(torch.uint8), logits[:, -1] > 0

    def loss(self, hidden: Tensor, targets: Tensor, rows: Tensor, continuing: Tensor) -> Tensor:
        """Sum cross-entropy in nats over targets [N]: of the end, and the mean over the channels of the next row.

        Args:
            hidden: [N, C], of the same positions.
            rows: [K, D], the next rows of the targets that continue.
            continuing: [K], positions of these targets.
        """
        logits = self.project(hidden).float()
        end_loss = F.binary_cross_entropy_with_logits(
            logits[:, -1], (targets != CONTINUE).float(), reduction="sum"
        )
        channels = logits[continuing, :-1].reshape(-1, self.bins)
        row_loss = F.cross_entropy(channels, rows.reshape(-1).long(), reduction="sum")
        return end_loss + row_loss / self.size
