"""What is not text, in and out of the Transformer: rows of levels, such as a picture's patches or a sound's frames.

A row is one position of the sequence. In: one linear layer, as in ViT (Dosovitskiy et al. 2020, arXiv 2010.11929). Out:
a softmax over the levels of each channel, all channels at once, and whether the sound ends (dMel, arXiv 2407.15835).

Legend: B sequences, T tokens, F rows of features at most, N rows in all, D channels of a row, C width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptexp.model.config import TransformerConfig

GOES_ON = 0  # the target of a position that another row follows; any other: the sound ends there


class FeatureEmbedding(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.highest = config.feature_bins - 1
        self.project = nn.Linear(config.feature_size, config.d_model)
        self.missing = (
            nn.Parameter(torch.zeros(config.d_model)) if config.predicts_features else None
        )  # for a hidden row

    def forward(self, rows: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Levels [N, D], of which some rows may be hidden [N] -> [N, C]."""
        x = self.project(rows.to(self.project.weight.dtype) * (2 / self.highest) - 1)
        if hidden is None or self.missing is None:
            return x
        return torch.where(hidden[:, None], self.missing.to(x.dtype), x)


class FeatureHead(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.size, self.levels = config.feature_size, config.feature_bins
        self.project = nn.Linear(config.d_model, self.size * self.levels + 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., C] -> [..., D * levels + 1]: logits of each channel's levels, and that of the end."""
        return self.project(hidden)

    def chosen(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest next row [B, D] and whether the sound has ended [B], of logits [B, D * levels + 1]."""
        channels = logits[:, :-1].view(-1, self.size, self.levels)
        return channels.argmax(dim=-1).to(torch.uint8), logits[:, -1] > 0

    def loss(self, hidden: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """Nats, summed over the targets [N]: of the end, and the mean over the channels of the row that follows.

        Args:
            hidden: [N, C], of the same positions.
            rows: [those that go on, D], the rows that follow.
        """
        logits = self.project(hidden).float()
        goes_on = targets == GOES_ON
        of_end = F.binary_cross_entropy_with_logits(
            logits[:, -1], (~goes_on).float(), reduction="sum"
        )
        channels = logits[goes_on, :-1].reshape(-1, self.levels)
        return (
            of_end + F.cross_entropy(channels, rows.reshape(-1).long(), reduction="sum") / self.size
        )


def unpad(features: Tensor, counts: Tensor) -> Tensor:
    """Of features [B, F, ...] the first counts [B] of each sequence, one sequence after the other: [N, ...]."""
    return features[torch.arange(features.shape[1], device=features.device)[None] < counts[:, None]]
