import math

import numpy as np
import pytest

from gptexp.statistics.configs import compare_configs
from gptexp.statistics.pooled import find_noisy, fit_two_way, holm
from gptexp.statistics.verdict import compare_seeds


def draw(rng, configs, seeds, sd=1.0):
    return rng.normal(size=(1, seeds)) * 3 + rng.normal(0, sd, (configs, seeds))


def test_two_configs_are_compared_as_their_pairs_of_seeds():
    values = draw(np.random.default_rng(0), 2, 4)
    result = compare_configs(values, higher_is_better=True)
    other = 1 - result.reference
    pair = compare_seeds(
        values[result.reference], values[other], higher_is_better=True, paired=True
    )
    verdict = result.verdicts[other]
    assert (verdict.low, verdict.high) == pytest.approx((pair.low, pair.high))


def test_the_noise_of_all_configs_is_pooled_and_that_of_seeds_is_taken_out():
    values = draw(np.random.default_rng(0), 50, 5)
    fit = fit_two_way(values)
    assert fit.df == 49 * 4
    assert fit.pooled.deviation == pytest.approx(1.0, abs=0.1)
    differences = values.mean(axis=1)[:, None] - values.mean(axis=1)
    np.testing.assert_allclose(fit.effects[:, None] - fit.effects, differences)
    assert fit.factor(0, 1) == pytest.approx(2 / 5)


def test_configs_with_fewer_seeds_are_compared_as_if_they_had_all():
    values = np.array([[0.0, 10.0, 20.0], [1.0, 11.0, 21.1], [2.0, math.nan, math.nan]])
    fit = fit_two_way(values)
    assert fit.effects[2] - fit.effects[0] == pytest.approx(2.0, abs=0.1)
    result = compare_configs(values, higher_is_better=True, reference=0)
    assert result.verdicts[2].word == "better"
    assert result.verdicts[2].n_seeds == 1


def test_configs_without_common_seeds_are_compared_without_pairs():
    values = np.full((2, 6), np.nan)
    values[0, :3], values[1, 3:] = [1, 2, 3], [11, 12, 13]
    assert fit_two_way(values).df == 4
    assert compare_configs(values, higher_is_better=True).verdicts[0].word == "worse"


def test_a_best_that_the_values_choose_must_beat_the_others_by_more():
    values = draw(np.random.default_rng(1), 12, 3)
    values[0] += 2.7
    chosen = compare_configs(values, higher_is_better=True)
    named = compare_configs(values, higher_is_better=True, reference=0)
    assert chosen.reference == named.reference == 0
    words = [[v.word for v in result.verdicts.values()] for result in (chosen, named)]
    assert 0 < words[0].count("worse") < words[1].count("worse")
    sentences = " ".join(v.sentence for v in chosen.verdicts.values())
    assert "clear by itself, but one of 66 comparisons" in sentences


def test_a_config_that_varies_more_is_not_pooled():
    values = draw(np.random.default_rng(0), 8, 4)
    values[5] *= 60
    assert find_noisy(values) == [5]
    result = compare_configs(values, higher_is_better=True, reference=0)
    assert result.noisy == [5]
    assert result.pooled.deviation < 2
    pair = compare_seeds(values[0], values[5], higher_is_better=True, paired=True)
    assert result.verdicts[5].low == pytest.approx(pair.low)


def test_a_config_that_varies_is_not_pooled_with_configs_that_do_not():
    values = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, 3.0, 3.0], [3.0, 5.0, 1.0]])
    assert find_noisy(values) == [3]
    assert compare_configs(values, higher_is_better=False).verdicts[3].word == "cannot tell"
    assert find_noisy(values[:3]) == []


def test_a_config_with_more_failed_seeds_is_neither_best_nor_better():
    values = draw(np.random.default_rng(0), 4, 4, sd=0.1)
    values[0] += 5
    values[0, 3] = np.nan
    plain = compare_configs(values, higher_is_better=True)
    assert (plain.reference, plain.verdicts[1].word) == (0, "worse")
    result = compare_configs(values, higher_is_better=True, failed=[1, 0, 0, 0])
    assert result.reference != 0
    assert result.verdicts[0].word == "cannot tell"
    assert "the side with the better values has more failed seeds" in result.verdicts[0].sentence
    values[0] -= 10
    result = compare_configs(values, higher_is_better=True, failed=[1, 0, 0, 0])
    assert result.verdicts[0].word == "worse"


def test_one_seed_of_each_config_says_nothing():
    result = compare_configs([[1.0], [2.0], [math.nan]], higher_is_better=True)
    assert result.reference == 1
    assert result.pooled is None
    assert set(result.verdicts) == {0}
    assert "one seed does not show the noise" in result.verdicts[0].sentence
    assert compare_configs([[math.nan]], higher_is_better=True).reference is None
    equal = compare_configs([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], higher_is_better=False)
    assert (equal.reference, equal.verdicts[2].word) == (0, "cannot tell")


def test_holm_adjusts_the_smallest_p_most():
    p = {(0, 1): 0.01, (0, 2): 0.04, (1, 2): 0.03}
    assert holm(p) == pytest.approx({(0, 1): 0.03, (1, 2): 0.06, (0, 2): 0.06})


def test_equal_configs_are_told_apart_in_at_most_five_percent_of_sweeps():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(100):
        result = compare_configs(draw(rng, 4, 3), higher_is_better=True)
        wrong += any(v.word != "cannot tell" for v in result.verdicts.values())
    assert wrong <= 9  # five are expected at most; ten happen once in 35 times


def test_verdicts_that_decide_who_gets_another_seed_have_to_be_clearer():
    values = draw(np.random.default_rng(5), 3, 5)
    values[0] += 2.2
    values[2, 2:] = np.nan
    once = compare_configs(values, higher_is_better=True)
    looked = compare_configs(values, higher_is_better=True, looks=4)
    assert {verdict.word for verdict in once.verdicts.values()} == {"worse"}
    assert {verdict.word for verdict in looked.verdicts.values()} == {"cannot tell"}
    assert "one of 3 comparisons, made up to 4 times" in looked.verdicts[1].sentence


def test_a_config_with_the_easier_seeds_is_not_the_best_for_that():
    values = np.array([[1.0, 10.0, 20.2], [math.nan, 9.0, 19.0]])
    assert compare_configs(values, higher_is_better=True).reference == 0


def test_a_pair_that_is_noisier_than_the_pool_has_its_own_noise():
    values = draw(np.random.default_rng(0), 12, 3, sd=0.1)
    values[:2] += np.random.default_rng(1).normal(0, 0.4, (2, 3))
    fit = fit_two_way(values)
    assert fit.deviation(0, 1) > fit.deviation(0, 5) >= fit.pooled.deviation
    assert fit.deviation(5, 6) == fit.pooled.deviation
