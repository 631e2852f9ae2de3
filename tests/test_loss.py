import torch

from gptexp.loss import LossCounts, LossSums


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
