"""One sequence an example: a prompt and its completion. The prompt can begin with rows of features.

A text and its summary, or the patches of an image and its caption.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.data.batch import FEATURE, IGNORE, Batch
from gptexp.data.datasets.dataset import ExampleDataset
from gptexp.data.token_store import TokenStore
from gptexp.loss import LossCounts


class FeatureDataset(ExampleDataset):
    """Sequences of tokens with rows of features before or after them."""

    def __init__(self, store: TokenStore, split: str) -> None:
        super().__init__(store, split)
        self.features = store.features(split)

    def pad_sequences(
        self, indices: NDArray[np.int64], features_first: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return tokens [B, T] with FEATURE for each row of features, and the rows [B, F, D] or None for none."""
        entries = self.index[indices]
        longest = int((entries["length"] + entries["rows"]).max(initial=2))
        most_rows = int(entries["rows"].max(initial=0))
        tokens = np.full((len(entries), longest), self.pad, np.int64)
        features = np.zeros((len(entries), most_rows, self.features.shape[1]), np.uint8)
        texts = self.tokens.read(entries["offset"], entries["length"])
        for number, (entry, text) in enumerate(zip(entries, texts, strict=True)):
            rows = self.features[entry["row"] : entry["row"] + entry["rows"]]
            placeholders = np.full(len(rows), FEATURE)
            parts = (placeholders, text) if features_first else (text, placeholders)
            tokens[number, : len(text) + len(rows)] = np.concatenate(parts)
            features[number, : len(rows)] = rows
        return torch.from_numpy(tokens), torch.from_numpy(features) if len(self.features) else None


class PromptCompletionDataset(FeatureDataset):
    """Sequences whose targets are the completion, or with `loss_on_prompt` all of the sequence."""

    def __init__(self, store: TokenStore, split: str, loss_on_prompt: bool = False) -> None:
        super().__init__(store, split)
        self.loss_on_prompt = loss_on_prompt

    def batch(
        self, indices: NDArray[np.int64], epoch: int, global_indices: NDArray[np.int64]
    ) -> Batch:
        entries, global_entries = self.index[indices], self.index[global_indices]
        tokens, features = self.pad_sequences(indices, features_first=True)
        prefix = torch.from_numpy((entries["rows"] + entries["prefix"]).astype(np.int64))
        lengths = torch.from_numpy((entries["rows"] + entries["length"] - 1).astype(np.int64))
        positions = torch.arange(tokens.shape[1] - 1)[None]
        is_target = positions < lengths[:, None]
        if not self.loss_on_prompt:
            is_target &= positions >= prefix[:, None] - 1
        counts = LossCounts(
            targets=int(global_entries["targets"].sum()),
            tokens=int((global_entries["rows"] + global_entries["length"] - 1).sum()),
        )
        return Batch(
            tokens[:, :-1],
            tokens[:, 1:].masked_fill(~is_target, IGNORE),
            counts,
            lengths=lengths,
            prefix=prefix,
            examples=torch.from_numpy(indices),
            features=features,
        )
