"""BERT's pretraining (Devlin et al. 2018): hidden tokens and next-sentence prediction, on the same pairs of texts."""

import math

from gptexp.config import schema
from gptexp.data.masking import Masked
from gptexp.data.packing import Sequences
from gptexp.data.store import Store
from gptexp.tasks.base import Losses
from gptexp.tasks.nsp import Nsp


class Bert(Nsp):
    config: schema.Bert

    def sequences(self, store: Store, split: str, seed: int | None) -> Sequences:
        return Masked(super().sequences(store, split, seed), store.tokenizer, self.config, seed)

    def loss_metrics(self, store: Store, split: str, losses: Losses) -> dict[str, float]:  # noqa: ARG002
        of_tokens = losses.of_targets / max(1, losses.targets)
        return {"loss": losses.mean(), "mask_loss": of_tokens, "mask_perplexity": math.exp(min(of_tokens, 700.0))}
