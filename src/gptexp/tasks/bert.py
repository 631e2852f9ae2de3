"""BERT's pretraining (Devlin et al. 2018): hidden tokens and next-sentence prediction, on the same pairs of texts."""

import math

from gptexp.config import schema
from gptexp.data.datasets.masked_lm import Masked
from gptexp.data.datasets.windows import SequenceDataset
from gptexp.data.token_store import TokenStore
from gptexp.model.loss import LossCounts, LossSums
from gptexp.tasks.nsp import Nsp


class Bert(Nsp):
    config: schema.BertConfig

    def sequences(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        return Masked(super().sequences(store, split, seed), store.tokenizer, self.config, seed)

    def loss_metrics(
        self, store: TokenStore, split: str, losses: LossSums, counts: LossCounts
    ) -> dict[str, float]:
        of_tokens = float(losses.targets) / max(1, counts.targets)
        return {
            "loss": float(losses.mean(counts)),
            "mask_loss": of_tokens,
            "mask_perplexity": math.exp(min(of_tokens, 700.0)),
        }
