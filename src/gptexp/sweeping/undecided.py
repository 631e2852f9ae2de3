"""Where further seeds are worth their time: the configs that the seeds so far cannot tell from the best."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np

from gptexp.statistics.configs import compare_configs

Config = TypeVar("Config", bound=Hashable)


def find_undecided(
    values: Mapping[Config, Mapping[int, float]], margin: float = 0.0, planned_seeds: int = 0
) -> list[Config]:
    """Return the best config and those that cannot be told from it, the best first.

    Args:
        values: for each config, of a metric that is the better the lower it is, by seed.
        margin: smallest difference that matters.
        planned_seeds: the most seeds that a config can get.
    """
    ranked = sorted(values, key=lambda config: float(np.mean(list(values[config].values()))))
    if len(ranked) < 2:
        return ranked
    seeds = sorted({seed for by_seed in values.values() for seed in by_seed})
    table = [[values[config].get(seed, np.nan) for seed in seeds] for config in ranked]
    outcome = compare_configs(
        table, higher_is_better=False, margin=margin, planned_seeds=planned_seeds
    )
    open_ones = [i for i, v in outcome.verdicts.items() if v.word == "cannot tell"]
    if outcome.reference is None or not open_ones:
        return []
    return [ranked[outcome.reference], *(ranked[i] for i in sorted(open_ones))]
