import math

import pytest
import torch

from gptexp.loss import LossCounts, LossSums, PreferenceLoss, describe_pairs


def test_each_kind_of_loss_is_divided_by_its_own_count():
    sums = LossSums(torch.tensor(6.0), torch.tensor(4.0), torch.tensor(10.0))
    assert float(sums.mean(LossCounts(targets=3, labels=2, tokens=20))) == 2 + 2 + 0.5


def test_the_contributions_of_parts_add_up_to_the_mean_of_all():
    parts = [LossSums(*torch.rand(3)) for _ in range(4)]
    counts = [LossCounts(3, 1, 7), LossCounts(1, 1, 2), LossCounts(0, 1, 5), LossCounts(9, 1, 9)]
    total = counts[0].plus(counts[1]).plus(counts[2]).plus(counts[3])
    assert total == (13, 4, 23)
    together = parts[0].plus(parts[1]).plus(parts[2]).plus(parts[3])
    torch.testing.assert_close(together.mean(total), sum(part.mean(total) for part in parts))


def test_a_part_without_targets_or_labels_adds_nothing():
    assert float(LossSums(*torch.zeros(3)).mean(LossCounts())) == 0


LOG_PROBS = torch.tensor([[-3.0, -5.0], [-4.0, -1.0]], requires_grad=True)
REFERENCE = torch.tensor([[-4.0, -3.5], [-4.0, -3.0]])
LENGTHS = torch.tensor([[2, 3], [4, 1]])
DIFFERENCES = [(-3 + 4) - (-5 + 3.5), (-4 + 4) - (-1 + 3)]  # of the log ratios, by pair


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sigmoid", sum(math.log(1 + math.exp(-0.5 * d)) for d in DIFFERENCES)),
        ("hinge", sum(max(0.0, 1 - 0.5 * d) for d in DIFFERENCES)),
        ("ipo", (1 / 2 + 1.5 / 3 - 1) ** 2 + (0 - 2 / 1 - 1) ** 2),
    ],
)
def test_the_loss_of_pairs_is_that_of_its_paper(kind, expected):
    sums = PreferenceLoss(kind, beta=0.5).sum_losses(LOG_PROBS, LENGTHS, REFERENCE)
    assert float(sums.labels.detach()) == pytest.approx(expected)
    assert float(sums.targets) == 0


def test_the_gradient_of_a_pair_grows_with_how_wrong_it_is():
    loss = PreferenceLoss("sigmoid", beta=0.5).sum_losses(LOG_PROBS, LENGTHS, REFERENCE).labels
    [gradient] = torch.autograd.grad(loss, [LOG_PROBS])
    weights = [0.5 / (1 + math.exp(0.5 * d)) for d in DIFFERENCES]
    assert gradient[:, 0].tolist() == pytest.approx([-weight for weight in weights])
    assert gradient[:, 1].tolist() == pytest.approx(weights)


def test_equal_models_have_no_rewards_and_the_loss_of_a_coin():
    loss = PreferenceLoss(sft_weight=2.0)
    sums = loss.sum_losses(REFERENCE, LENGTHS, REFERENCE)
    assert float(sums.labels) == pytest.approx(2 * math.log(2))
    assert float(sums.targets) == 2 * (4 + 4)  # of the chosen answers
    report = describe_pairs(sums.statistics)
    assert report.pop("reward_accuracy") == 0.5  # ties are half right
    assert set(report.values()) == {0.0}
    report = describe_pairs(loss.sum_losses(LOG_PROBS, LENGTHS, REFERENCE).statistics)
    assert report["reward_accuracy"] == 0.5  # one of two
    assert report["reward_margin"] == pytest.approx(0.1 * (2.5 - 2) / 2)
