import itertools
import math

import pytest

from gptexp.sweeping.propose import START_CONFIGS, Trial, propose
from gptexp.sweeping.search_space import read_space

SPACE = read_space(["optim.lr=tag(log,interval(0.001,1))", "model=nano,small"])


def search(method: str, n: int, seed: int = 1) -> list[Trial]:
    """A search for the rate 0.03, with values that are known at once."""
    trials: list[Trial] = []
    for _ in range(n):
        values = propose(SPACE, method, seed, trials)
        error = abs(math.log10(float(values["optim.lr"])) - math.log10(0.03))
        trials.append(Trial(values, "finished", error + (values["model"] == "small")))
    return trials


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_equal_jobs_give_the_equal_proposal_and_another_seed_another(method):
    trials = search(method, 8)
    assert search(method, 8) == trials
    assert propose(SPACE, method, 1, trials[:5]) == trials[5].values
    assert search(method, 8, seed=2) != trials
    assert len({tuple(trial.values.items()) for trial in trials}) == 8


def test_points_of_a_random_search_fill_the_range_evenly():
    rates = sorted(math.log10(float(t.values["optim.lr"])) for t in search("random", 12))
    gaps = [b - a for a, b in itertools.pairwise(rates)]
    assert max(gaps) < 0.4  # of three decades; independent points leave one of 0.8 on average
    assert {trial.values["model"] for trial in search("random", 4)} == {"nano", "small"}


def test_the_estimator_searches_where_the_loss_is_low():
    best = [min(search("tpe", 20, seed), key=lambda trial: trial.objective) for seed in (1, 2, 3)]
    assert all(0.01 < float(trial.values["optim.lr"]) < 0.09 for trial in best)
    assert all(trial.values["model"] == "nano" for trial in best)


def test_running_failed_and_pruned_configs_take_part():
    trials = search("tpe", START_CONFIGS)
    trials[0] = Trial(trials[0].values, "failed")
    trials[1] = Trial(trials[1].values, "pruned", losses={10: 3.0, 20: math.inf})
    trials[2] = Trial(trials[2].values, "running")
    assert propose(SPACE, "tpe", 1, trials) not in [trial.values for trial in trials]


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_a_search_ends_when_every_config_has_been_proposed(method):
    space = read_space(["model.layers=1,2,3", "model=nano,small"])
    trials: list[Trial] = []
    while values := propose(space, method, 1, trials):
        trials.append(Trial(values, "finished", 1.0))
    assert len(trials) == 6


def test_a_search_in_a_range_with_few_numbers_ends():
    trials: list[Trial] = []
    for word in ("model.layers=interval(1,3)", "optim.lr=interval(0.1,0.1002)"):
        while values := propose(read_space([word]), "random", 1, trials):
            trials.append(Trial(values, "finished", 1.0))
    layers = [trial.values["model.layers"] for trial in trials if "model.layers" in trial.values]
    assert sorted(layers) == ["1", "2", "3"]
