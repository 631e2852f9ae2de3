"""Sequences of a text and the frames of its audio, each frame learned from those before it."""

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.data.batch import IGNORE, Batch
from gptexp.data.datasets.prompt_completion import FeatureDataset
from gptexp.data.token_store import TokenStore
from gptexp.loss import LossCounts
from gptexp.model.features import CONTINUE

STOP = 1  # target of the last position; that of the others is CONTINUE
MAX_MASKED_FRACTION = 0.6  # of the rows of a sequence


class TextToSpeechDataset(FeatureDataset):
    """A text, and rows of frames that are learned; in training, the model does without some of the rows before.

    With all of them, it learns to repeat the last frame instead of reading the text. The masked rows are a function of
    (seed, epoch, sequence): a share of the rows that is drawn anew for each sequence.
    """

    def __init__(self, store: TokenStore, split: str, seed: int | None) -> None:
        super().__init__(store, split)
        self.seed = seed

    def batch(
        self, indices: NDArray[np.int64], epoch: int, global_indices: NDArray[np.int64]
    ) -> Batch:
        entries, global_entries = self.index[indices], self.index[global_indices]
        tokens, features = self.pad_sequences(indices, features_first=False)
        assert features is not None
        prefix = torch.from_numpy(entries["length"].astype(np.int64))
        lengths = torch.from_numpy((entries["length"] + entries["rows"]).astype(np.int64))
        positions = torch.arange(tokens.shape[1])[None]
        targets = torch.full_like(tokens, IGNORE)
        is_target = (positions >= prefix[:, None] - 1) & (positions < lengths[:, None])
        targets[is_target] = CONTINUE
        targets[positions == lengths[:, None] - 1] = STOP
        counts = LossCounts(
            targets=int(global_entries["targets"].sum()),
            tokens=int((global_entries["length"] + global_entries["rows"]).sum()),
        )
        masked_rows = None
        if self.seed is not None:
            masked_rows = self._masked_rows(indices, epoch, features.shape[1])
        return Batch(
            tokens,
            targets,
            counts,
            lengths=lengths,
            prefix=prefix,
            examples=torch.from_numpy(indices),
            features=features,
            masked_rows=masked_rows,
        )

    def _masked_rows(self, indices: NDArray[np.int64], epoch: int, rows: int) -> torch.Tensor:
        masked = np.zeros((len(indices), rows), bool)
        for number, index in enumerate(indices.tolist()):
            rng = np.random.default_rng([self.seed or 0, epoch, index])
            count = int(self.index[index]["rows"])
            masked[number, :count] = rng.random(count) < MAX_MASKED_FRACTION * rng.random()
        return torch.from_numpy(masked)
