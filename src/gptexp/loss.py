"""Losses as sums over a part of a batch, and the counts of the whole batch to divide them by."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class LossCounts(NamedTuple):
    """Divisors of the loss: counts over a whole global batch, or over a whole split."""

    targets: int = 0  # valid targets
    labels: int = 0  # labels of whole sequences
    tokens: int = 0  # tokens, padding aside

    def plus(self, other: "LossCounts") -> "LossCounts":
        return LossCounts(*map(sum, zip(self, other, strict=True)))


class LossSums(NamedTuple):
    """Losses in nats, summed over a part of a global batch. A tuple, so that FSDP finds the tensors in it."""

    targets: Tensor  # cross-entropy, summed over valid targets
    labels: Tensor  # cross-entropy, summed over labels of whole sequences
    auxiliary: Tensor  # weighted extra terms, summed over tokens
    statistics: Tensor = torch.zeros(0)  # [n], summed over tokens; Transformer.report names them

    def plus(self, other: "LossSums") -> "LossSums":
        return LossSums(*(a + b for a, b in zip(self, other, strict=True)))

    def mean(self, counts: LossCounts) -> Tensor:
        """Return what these sums contribute to the mean loss: nats a target, a label, and a token."""
        return (
            self.targets / max(1, counts.targets)
            + self.labels / max(1, counts.labels)
            + self.auxiliary / max(1, counts.tokens)
        )


class PreferenceLoss(NamedTuple):
    """A loss of pairs of answers, of which one is preferred: B pairs, each the chosen answer and the rejected one.

    It compares how likely the model and a reference, the weights before training, make the answers.

    kind: "sigmoid" is Direct Preference Optimization (Rafailov et al. 2023, arXiv 2305.18290), "ipo" that of Azar et
        al. 2023 (arXiv 2310.12036) with the mean over the tokens of an answer, "hinge" SLiC's (Zhao et al. 2023, arXiv
        2305.10425).
    beta: how much a log ratio counts: the larger, the closer the model stays to the reference.
    sft_weight: of the cross-entropy of the chosen answers, a mean over their tokens, that is added.
    """

    kind: str = "sigmoid"
    beta: float = 0.1
    sft_weight: float = 0.0

    def sum_losses(self, log_probs: Tensor, lengths: Tensor, reference: Tensor) -> LossSums:
        """Sum the losses of pairs; the statistics are named by `describe_pairs`.

        Args:
            log_probs, reference: [B, 2] of the answers, in the model and in the reference.
            lengths: [B, 2], their tokens.
        """
        rewards = self.rewards(log_probs, lengths, reference)
        margins = rewards[:, 0] - rewards[:, 1]
        if self.kind == "sigmoid":
            losses = -F.logsigmoid(margins)
        elif self.kind == "hinge":
            losses = F.relu(1 - margins)
        else:
            losses = ((margins - 0.5) / self.beta) ** 2
        zero = log_probs.new_zeros(())
        sft = -self.sft_weight * log_probs[:, 0].sum() if self.sft_weight else zero
        chosen, rejected = rewards.detach().sum(dim=0)
        correct = (margins.detach().sign() + 1).sum() / 2
        statistics = torch.stack([zero + len(margins), correct, chosen, rejected])
        return LossSums(sft, losses.sum(), zero, statistics)

    def rewards(self, log_probs: Tensor, lengths: Tensor, reference: Tensor) -> Tensor:
        """Return the implicit rewards [B, 2] of answers: beta times their log ratios to the reference."""
        ratios = log_probs - reference
        return self.beta * (ratios / lengths if self.kind == "ipo" else ratios)


def describe_pairs(statistics: Tensor) -> dict[str, float]:
    """Name the statistics [4] of PreferenceLoss: means over pairs; a pair of equal rewards is half right."""
    pairs, correct, chosen, rejected = statistics.tolist()
    return {
        "reward_accuracy": correct / pairs,
        "reward_margin": (chosen - rejected) / pairs,
        "chosen_reward": chosen / pairs,
        "rejected_reward": rejected / pairs,
    }
