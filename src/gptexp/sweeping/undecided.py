"""Where further seeds are worth their time: the configs that the seeds so far cannot tell from the best."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np

from gptexp.statistics.configs import compare_configs

Config = TypeVar("Config", bound=Hashable)


def find_undecided(
    values: Mapping[Config, Mapping[int, float]], planned_seeds: int, margin: float = 0.0
) -> list[Config]:
    """Return the best config and those that cannot be told from it.

    Args:
        values: for each config, of a metric that is the better the lower it is, by seed.
        planned_seeds: the most seeds that a config can get.
        margin: smallest difference that matters.
    """
    configs = list(values)
    if len(configs) < 2:
        return configs
    seeds = sorted({seed for by_seed in values.values() for seed in by_seed})
    table = [[values[config].get(seed, np.nan) for seed in seeds] for config in configs]
    outcome = compare_configs(
        table, higher_is_better=False, margin=margin, looks=max(1, planned_seeds - 1)
    )
    undecided = [
        number for number, verdict in outcome.verdicts.items() if verdict.word == "cannot tell"
    ]
    if not undecided or outcome.reference is None:
        return []
    undecided.sort(key=lambda number: float(np.mean(list(values[configs[number]].values()))))
    return [configs[number] for number in (outcome.reference, *undecided)]
