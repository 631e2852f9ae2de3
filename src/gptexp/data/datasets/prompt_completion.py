"""One sequence an example: what is given, then what is learned. Either can be rows of features.

A text and its summary, a picture's patches and its caption, a text and the frames of its sound.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.data.batch import FEATURE, IGNORE, Batch
from gptexp.data.datasets.windows import ExampleDataset
from gptexp.data.token_store import TokenStore
from gptexp.model.loss import LossCounts

GOES_ON, STOPS = 0, 1  # targets where features are learned: another row follows, or the sound ends
LARGEST_SHARE = 0.6  # of the rows of a sequence that are hidden


class FeatureDataset(ExampleDataset):
    def __init__(self, store: TokenStore, split: str) -> None:
        super().__init__(store, split)
        self.features = store.features(split)

    def _padded(
        self, indices: NDArray[np.int64], features_first: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Tokens [B, T] with FEATURE for each row of features, and these rows [B, F, size], if the store has any."""
        entries = self.index[indices]
        longest = max(2, int((entries["length"] + entries["rows"]).max())) if len(entries) else 2
        most = int(entries["rows"].max()) if len(entries) else 0
        tokens = np.full((len(entries), longest), self.pad, np.int64)
        features = np.zeros((len(entries), most, self.features.shape[1]), np.uint8)
        for number, entry in enumerate(entries):
            text = self.tokens[entry["offset"] : entry["offset"] + entry["length"]]
            rows = np.full(entry["rows"], FEATURE)
            parts = (rows, text) if features_first else (text, rows)
            tokens[number, : len(text) + len(rows)] = np.concatenate(
                [part.astype(np.int64) for part in parts]
            )
            features[number, : len(rows)] = self.features[
                entry["row"] : entry["row"] + entry["rows"]
            ]
        return torch.from_numpy(tokens), torch.from_numpy(features) if len(self.features) else None


class Examples(FeatureDataset):
    """A text, or a picture's patches, and a separator are given; what follows is learned, or all of it."""

    def __init__(self, store: TokenStore, split: str, loss_on_prompt: bool = False) -> None:
        super().__init__(store, split)
        self.loss_on_prompt = loss_on_prompt

    def batch(self, indices: NDArray[np.int64], epoch: int, whole: NDArray[np.int64]) -> Batch:
        entries, everything = self.index[indices], self.index[whole]
        tokens, features = self._padded(indices, features_first=True)
        prefix = torch.from_numpy((entries["rows"] + entries["prefix"]).astype(np.int64))
        lengths = torch.from_numpy((entries["rows"] + entries["length"] - 1).astype(np.int64))
        places = torch.arange(tokens.shape[1] - 1)[None]
        learned = (self.loss_on_prompt | (places >= prefix[:, None] - 1)) & (
            places < lengths[:, None]
        )
        return Batch(
            tokens[:, :-1],
            tokens[:, 1:].masked_fill(~learned, IGNORE),
            LossCounts(
                targets=int(everything["targets"].sum()),
                tokens=int((everything["rows"] + everything["length"] - 1).sum()),
            ),
            lengths=lengths,
            prefix=prefix,
            examples=torch.from_numpy(indices),
            features=features,
        )
