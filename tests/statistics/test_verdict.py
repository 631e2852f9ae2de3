import math

import numpy as np
import pytest

from gptexp.statistics.pooled import Pooled
from gptexp.statistics.sign_flips import sign_flip_p
from gptexp.statistics.verdict import compare_examples, compare_runs, compare_seeds

LOSSES = [2.0, 2.1, 2.05]


def compare_losses(b, a=LOSSES, paired=True, **more):
    return compare_seeds(a, b, higher_is_better=False, paired=paired, **more)


def test_a_verdict_speaks_of_the_second_side():
    verdict = compare_losses([1.90, 1.98, 1.96])
    assert verdict.word == "better"
    assert verdict.difference == pytest.approx(-0.10333, abs=1e-5)
    assert verdict.low == pytest.approx(-0.1413, abs=1e-4)
    assert verdict.high == pytest.approx(-0.0654, abs=1e-4)
    assert verdict.p == pytest.approx(0.0072, abs=1e-4)
    assert (verdict.n_seeds, verdict.n_examples, verdict.scope) == (3, 0, "configs")
    assert verdict.sentence == (
        "better: -0.103 (95 % interval -0.141 to -0.0654, 3 seeds); correlation over seeds 0.96; "
        "could have seen 0.0499 or more"
    )
    assert compare_losses(LOSSES, [1.90, 1.98, 1.96]).word == "worse"


def test_an_open_verdict_says_how_many_more_seeds_it_takes():
    verdict = compare_losses([1.95, 2.1, 1.9])
    assert verdict.word == "cannot tell"
    assert verdict.more_seeds == 10
    assert verdict.sentence.endswith("about 10 more seeds would tell")
    assert compare_losses([2.0, 2.11, 2.041]).more_seeds is None
    assert "100 more seeds would not" in compare_losses([2.0, 2.11, 2.041]).sentence


def test_a_difference_below_the_margin_does_not_matter():
    verdict = compare_losses([2.001, 2.102, 2.0515], margin=0.05)
    assert verdict.word == "no difference that matters"
    assert compare_losses([2.001, 2.102, 2.0515], margin=0.001).word != verdict.word


def test_the_noise_of_other_runs_decides_where_few_seeds_cannot():
    b = [1.9, 2.0, 2.03]
    assert compare_losses(b).word == "cannot tell"
    assert compare_losses(b, pooled=Pooled(0.02, 20)).word == "better"
    assert compare_losses([1.9], [2.0], paired=False, pooled=Pooled(0.02, 20)).word == "better"


def test_one_seed_decides_nothing():
    verdict = compare_losses([1.0], [2.0])
    assert (verdict.word, verdict.difference, verdict.low) == ("cannot tell", -1.0, None)
    assert verdict.sentence == (
        "cannot tell: -1 (1 seed); one seed does not show the noise between seeds"
    )


@pytest.mark.parametrize("paired", [True, False])
def test_equal_differences_do_not_show_the_noise(paired):
    verdict = compare_losses([1.9, 1.9, 1.9], [2.0, 2.0, 2.0], paired)
    assert verdict.word == "cannot tell"
    assert "all differences are equal: the noise is unknown" in verdict.sentence
    assert compare_losses([x - 0.1 for x in LOSSES]).word == "cannot tell"  # equal but for rounding
    assert compare_losses(LOSSES).word == "cannot tell"


def test_six_equal_differences_are_seen_by_their_signs():
    assert compare_losses([1.9] * 6, [2.0] * 6).word == "better"
    assert compare_losses([2.0] * 6, [2.0] * 6).word == "cannot tell"


def test_a_failed_seed_is_mentioned_and_does_not_make_its_side_better():
    a, b = [*LOSSES, 2.02], [1.90, 1.98, 1.96, math.nan]
    verdict = compare_losses(b, a)
    assert verdict.word == "cannot tell"
    assert "seeds that failed: 0 and 1" in verdict.sentence
    assert "the side with the better values has more failed seeds" in verdict.sentence
    assert compare_losses(a, b).word == "cannot tell"
    assert compare_losses([*b[:3], 1.93], [*LOSSES, math.inf]).word == "better"
    assert compare_losses([math.nan], [2.0]).difference is None


def test_pairs_that_rise_and_fall_together_are_told_apart_better():
    a, noise = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 0.01, -0.01, 0.0])
    paired, unpaired = (
        compare_seeds(a, a + 0.1 + noise, higher_is_better=True, paired=paired)
        for paired in (True, False)
    )
    assert (paired.word, unpaired.word) == ("better", "cannot tell")


def test_signs_are_enumerated_exactly():
    assert sign_flip_p([1.0, 2.0, 3.0]) == 0.25
    assert sign_flip_p([0.1] * 6) == 2 / 64
    assert sign_flip_p([0.0, 0.0]) == 1.0
    assert sign_flip_p([1.0] * 20 + [0.0] * 9000) == pytest.approx(1 / 4001)
    assert sign_flip_p(np.ones(2001)) is None


def test_signs_are_drawn_as_often_as_a_strict_level_takes():
    level = 0.05 / 210
    assert sign_flip_p([1.0] * 20, level) < level / 5
    assert sign_flip_p(np.ones(2000), level) is None  # would take long; close enough to t


def test_two_models_are_compared_by_the_same_examples():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=200)
    a, b = hard + rng.normal(size=200) / 4, hard + 0.2 + rng.normal(size=200) / 4
    verdict = compare_examples(a, b, range(200), higher_is_better=True)
    assert (verdict.word, verdict.scope, verdict.n_examples) == ("better", "models", 200)
    assert "this speaks of these two models, not of their configs" in verdict.sentence
    assert compare_examples(a, b, range(200), higher_is_better=False).word == "worse"


def test_copies_of_an_example_add_nothing():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=20), rng.normal(0.3, size=20)
    single = compare_examples(a, b, range(20), higher_is_better=True)
    copies = compare_examples(
        np.tile(a, 50), np.tile(b, 50), [*range(20)] * 50, higher_is_better=True
    )
    assert copies.low == pytest.approx(single.low)
    assert copies.word == single.word
    assert "1,000 examples in 20 groups" in copies.sentence


def test_equal_outputs_are_mentioned():
    verdict = compare_examples([1.0] * 20, [1.0] * 20, range(20), higher_is_better=True)
    assert (verdict.word, verdict.difference) == ("cannot tell", 0.0)
    assert "every score is the same on both sides" in verdict.sentence


def test_four_examples_that_changed_are_not_enough():
    a, b = np.zeros(20), np.r_[np.ones(4), np.zeros(16)]
    verdict = compare_examples(a, b, range(20), higher_is_better=True)
    assert verdict.low > 0
    assert verdict.word == "cannot tell"  # as by McNemar's exact test
    assert "the signs of the differences alone do not show it (p = 0.12)" in verdict.sentence


def test_undefined_scores_of_examples_are_left_out():
    a, b = [1.0, math.nan, 3.0, 5.0], [2.0, 9.0, math.nan, 9.0]
    verdict = compare_examples(a, b, range(4), higher_is_better=True)
    assert verdict.difference == pytest.approx((1 + 4) / 2)
    assert verdict.n_examples == 2
    batches = compare_examples(a, b, range(4), higher_is_better=True, unit="batch")
    assert "2 batches" in batches.sentence
    assert compare_examples([], [], [], higher_is_better=True).difference is None
    assert "of one group" in compare_examples(a, b, "xxxx", higher_is_better=True).sentence


def test_several_seeds_and_examples_speak_of_configs():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=100)
    a, b = (hard + rng.normal(0, 0.5, (3, 100)) + shift for shift in (0.0, 0.5))
    for paired in (True, False):
        verdict = compare_runs(a, b, range(100), higher_is_better=True, paired=paired)
        assert (verdict.word, verdict.scope) == ("better", "configs")
        assert (verdict.n_seeds, verdict.n_examples) == (3, 100)
        assert verdict.p < 0.05
        assert verdict.high - verdict.low < 0.9
    one = compare_runs(a[:1], b[:1], range(100), higher_is_better=True, paired=True)
    assert one.scope == "models"


def test_seeds_that_disagree_leave_the_verdict_open_however_many_examples():
    shifts = np.array([[0.0], [0.6], [-0.3]])
    a = np.tile(np.linspace(0, 1, 5000), (3, 1))
    noise = np.random.default_rng(0).normal(0, 0.1, a.shape)
    verdict = compare_runs(a, a + shifts + noise, range(5000), higher_is_better=True, paired=True)
    assert verdict.word == "cannot tell"
    assert (
        compare_examples(a[1], a[1] + 0.6 + noise[1], range(5000), higher_is_better=True).word
        == "better"
    )


def test_failed_seeds_are_left_out_of_scores_and_do_not_make_their_side_better():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=100)
    a, b = (hard + rng.normal(0, 0.5, (4, 100)) + shift for shift in (0.0, 0.5))
    failed = b.copy()
    failed[3] = np.nan
    for paired in (True, False):
        verdict = compare_runs(a, failed, range(100), higher_is_better=True, paired=paired)
        assert (verdict.word, verdict.n_seeds, verdict.n_examples) == ("cannot tell", 3, 100)
        assert "seeds that failed: 0 and 1" in verdict.sentence
        assert "the side with the better values has more failed seeds" in verdict.sentence
        assert compare_runs(failed, a, range(100), higher_is_better=True, paired=paired).low < 0
        better = compare_runs(failed - 1, a, range(100), higher_is_better=True, paired=paired)
        assert better.word == "better"
    nothing = np.full_like(a, np.nan)
    assert compare_runs(a, nothing, range(100), higher_is_better=True, paired=True).low is None


@pytest.mark.parametrize("groups", [2, 3, 5])
def test_few_groups_of_examples_decide_nothing(groups):
    labels = np.arange(60) % groups
    noise = np.random.default_rng(0).normal(0, 0.1, (3, 60))
    a = np.random.default_rng(1).normal(size=60) + noise
    verdict = compare_runs(a, a + 1 + noise, labels.tolist(), higher_is_better=True, paired=True)
    assert verdict.word == "cannot tell"
    assert "the signs of the differences alone do not show it" in verdict.sentence
