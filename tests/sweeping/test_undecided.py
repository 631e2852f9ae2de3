from gptexp.sweeping.undecided import find_undecided


def test_without_noise_known_all_configs_are_undecided():
    assert find_undecided({"b": {1: 2.0}, "a": {1: 1.0}}, 3) == ["a", "b"]


def test_a_config_that_is_clearly_worse_needs_no_more_seeds():
    values = {
        "far": {1: 9.0, 2: 9.02},
        "best": {1: 1.0, 2: 1.02, 3: 0.98},
        "near": {1: 1.01, 2: 1.0, 3: 1.02},
        "again": {1: 1.5, 2: 1.51},
    }
    assert find_undecided(values, 3) == ["best", "near"]


def test_no_config_needs_more_seeds_when_all_is_decided():
    values = {"best": {1: 1.0, 2: 1.01, 3: 0.99}, "far": {1: 9.0, 2: 8.99, 3: 9.01}}
    assert find_undecided(values, 3) == []
    assert find_undecided({"only": {1: 1.0}}, 3) == ["only"]


def test_a_difference_that_does_not_matter_needs_no_more_seeds():
    values = {"best": {1: 1.0, 2: 1.0002, 3: 0.9998}, "near": {1: 1.0, 2: 1.0001, 3: 1.0}}
    assert find_undecided(values, 3) == ["best", "near"]
    assert find_undecided(values, 3, margin=0.1) == []
