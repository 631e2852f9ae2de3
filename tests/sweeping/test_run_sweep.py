import pytest

from gptexp.errors import UserError
from gptexp.sweeping import run_sweep
from gptexp.sweeping.run_sweep import check_settings
from gptexp.sweeping.search_space import read_space
from gptexp.sweeping.sweep_plan import SweepSettings

RANGE = "optim.lr=tag(log,interval(0.001,0.1))"
SEARCH = {"method": "random", "n_trials": 5}


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        ([RANGE], {}, r"a grid needs values, optim\.lr=1,2,3; to search in a range, add hydra/sweeper=search"),
        (["seed=1,2"], SEARCH, "no setting is swept"),
        ([RANGE], {"method": "random"}, r"hydra\.sweeper\.n_trials=None: must be the number"),
        ([RANGE], {**SEARCH, "n_trials": 0}, r"hydra\.sweeper\.n_trials=0: must be"),
        ([RANGE], {"method": "tpo"}, r"hydra\.sweeper\.method=tpo.*Did you mean 'tpe'"),
        ([RANGE], {**SEARCH, "seeds_for": "some"}, "Allowed: all, undecided"),
        (["seed=1,2"], {"margin": -0.1}, r"hydra\.sweeper\.margin=-0\.1: must be 0 or"),
        ([RANGE], {**SEARCH, "objective": "test/f1"}, "Allowed: primary_metric, val/loss"),
    ],
)  # fmt: skip
def test_a_sweep_that_cannot_run_is_refused(words, settings, message):
    with pytest.raises(UserError, match=message):
        check_settings(SweepSettings(**settings), read_space(words))


def test_a_search_by_the_estimator_needs_optuna(monkeypatch):
    def find_none(extra: str, modules: list[str]) -> None:
        raise UserError(f"{modules[0]} is missing: gptexp[{extra}]")

    monkeypatch.setattr(run_sweep, "require_extra", find_none)
    check_settings(SweepSettings(**SEARCH), read_space([RANGE]))
    with pytest.raises(UserError, match=r"optuna is missing: gptexp\[sweeps\]"):
        check_settings(SweepSettings(method="tpe", n_trials=5), read_space([RANGE]))


def test_nothing_is_pruned_under_torchrun():
    sweep = run_sweep._Sweep.__new__(run_sweep._Sweep)
    sweep.settings = SweepSettings(prune=True)
    with pytest.raises(UserError, match=r"type hydra\.sweeper\.prune=false"):
        sweep.run_in_lockstep()
