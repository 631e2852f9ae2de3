"""BERT's pretraining (Devlin et al. 2018): masked tokens and next-sentence prediction on the same pairs of texts."""

import math

from gptexp.config import schema
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.datasets.masked_lm import MaskedLMDataset
from gptexp.data.token_store import TokenStore
from gptexp.loss import LossCounts, LossSums
from gptexp.tasks.nsp import Nsp, SentencePair


class MaskedPair(SentencePair):
    predicts_next = False

    def __init__(self, context: int, config: schema.MaskedLMConfig) -> None:
        super().__init__(context)
        self.config = config

    def dataset(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        return MaskedLMDataset(
            super().dataset(store, split, seed), store.tokenizer, self.config, seed
        )


class Bert(Nsp):
    def __init__(self, config: schema.BertConfig, model: schema.ModelConfig) -> None:
        super().__init__(config, model, MaskedPair(model.context, config))

    def loss_metrics(
        self, store: TokenStore, split: str, losses: LossSums, counts: LossCounts
    ) -> dict[str, float]:
        mask_loss = float(losses.targets) / max(1, counts.targets)
        return {
            "loss": float(losses.mean(counts)),
            "mask_loss": mask_loss,
            "mask_perplexity": math.exp(min(mask_loss, 700.0)),
        }
