"""The next config of a search: evenly spread points, or the tree-structured Parzen estimator of Optuna.

Nothing is stored but the jobs: a study is rebuilt from them for each proposal, and a proposal is a function of the
jobs, the seed and its number, so that a sweep that was killed goes on as if it had not been.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from gptexp.sweeping.search_space import Choices, Range, SearchSpace

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

Method = Literal["grid", "random", "tpe"]
START_CONFIGS = 4  # spread evenly, before the estimator has enough to go by
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)
ATTEMPTS = 20  # of the estimator to propose a config that is not among the jobs yet
MAX_POINTS = 10_000  # that are tried where most configs are among the jobs


@dataclass
class Trial:
    """A config that has been proposed before, and what is known of it."""

    values: dict[str, str]  # by key
    state: Literal["running", "finished", "failed", "pruned"]
    objective: float | None = None  # of a finished one; lower is better
    losses: dict[int, float] = field(default_factory=dict)  # validation losses by step


def propose(
    space: SearchSpace, method: Method, seed: int, trials: Sequence[Trial]
) -> dict[str, str] | None:
    """Return the values of a config that is not among the trials; None: there is no other."""
    known = [trial.values for trial in trials]
    number = len(trials)
    if number >= space.size:
        return None
    if method == "tpe" and number >= START_CONFIGS:
        for attempt in range(ATTEMPTS):
            values = _ask(space, _draw_seed(seed, number, attempt), trials)
            if values not in known:
                return values
    points = (_spread(space, seed, position) for position in range(number, number + MAX_POINTS))
    return next((values for values in points if values not in known), None)


def _spread(space: SearchSpace, seed: int, number: int) -> dict[str, str]:
    """Return point `number` of a sequence that fills the space evenly, whatever its length.

    It is Halton's sequence, shifted by an offset that the seed gives (Halton 1960; Cranley and Patterson 1976).
    """
    values = {}
    for index, (key, axis) in enumerate(space.axes.items()):
        offset = _draw_seed(seed, index, 0) / 2**32
        position = offset + _radical_inverse(number, PRIMES[index % len(PRIMES)])
        values[key] = axis.value_at(position % 1)
    return values


def _radical_inverse(number: int, base: int) -> float:
    """Return the digits of a number in reverse order behind the point: 6, which is 110 in base 2, gives 0.011."""
    value, digit = 0.0, 1.0
    while number:
        digit /= base
        number, remainder = divmod(number, base)
        value += remainder * digit
    return value


def _draw_seed(*numbers: int) -> int:
    """Return a number of 32 bits that depends on all the others."""
    digest = hashlib.sha256(",".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _ask(space: SearchSpace, seed: int, trials: Sequence[Trial]) -> dict[str, str]:
    """Let Optuna propose a config, given all trials so far."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution(axis) for key, axis in space.axes.items()}
    sampler = optuna.samplers.TPESampler(n_startup_trials=START_CONFIGS, seed=seed)
    study = optuna.create_study(sampler=sampler)
    for trial in trials:
        study.add_trial(_frozen_trial(trial, distributions))
    params = study.ask(distributions).params
    return {key: _as_word(axis, params[key]) for key, axis in space.axes.items()}


def _distribution(axis: Choices | Range) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(axis, Choices):
        return CategoricalDistribution(axis.values)
    if axis.is_integer:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.is_log)
    return FloatDistribution(axis.low, axis.high, log=axis.is_log)


def _frozen_trial(trial: Trial, distributions: "dict[str, BaseDistribution]") -> "FrozenTrial":
    from optuna.distributions import CategoricalDistribution, IntDistribution
    from optuna.trial import TrialState, create_trial

    params: dict[str, str | int | float] = {}
    for key, distribution in distributions.items():
        word = trial.values[key]
        if isinstance(distribution, CategoricalDistribution):
            params[key] = word
        else:
            number = float(word)
            params[key] = int(number) if isinstance(distribution, IntDistribution) else number
    states = {
        "running": TrialState.RUNNING,
        "finished": TrialState.COMPLETE,
        "failed": TrialState.FAIL,
        "pruned": TrialState.PRUNED,
    }
    losses = {step: loss for step, loss in trial.losses.items() if math.isfinite(loss)}
    return create_trial(
        state=states[trial.state],
        value=trial.objective if trial.state == "finished" else None,
        params=params,
        distributions=distributions,
        intermediate_values=losses,
    )


def _as_word(axis: Choices | Range, value: str | float) -> str:
    return axis.format(float(value)) if isinstance(axis, Range) else str(value)
