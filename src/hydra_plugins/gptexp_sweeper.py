"""The sweeper and the launcher of gptexp, at the place where Hydra looks for plugins. gptexp.sweeping does the work.

Hydra imports this module at each start: it imports nothing that Hydra has not imported.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.core_plugins import basic_launcher
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class SweeperConf:
    """hydra.sweeper of hydra/sweeper=grid and hydra/sweeper=search."""

    _target_: str = "hydra_plugins.gptexp_sweeper.GptexpSweeper"
    params: dict[str, str] | None = field(default_factory=dict)  # swept settings of a sweep file
    # grid: all combinations; random: evenly spread points; tpe: points where the objective is low so far
    method: str = "grid"
    n_trials: int | None = None  # configs of a random or tpe search, over all commands
    seed: int = 1  # of the proposals
    # what tpe and further seeds go by; or primary_metric, the headline of the table
    objective: str = "val/loss"
    prune: bool = False  # stop jobs that have no prospect of becoming the best
    seeds_for: str = (
        "all"  # or undecided: further seeds for configs that nobody can tell from the best
    )
    margin: float = 0.0  # smallest difference of the objective that matters
    batch_size: int | None = (
        None  # jobs at once in a search over another launcher; null: its n_jobs
    )


@dataclass
class SlotsConf:
    """hydra.launcher of hydra/launcher=slots."""

    _target_: str = "hydra_plugins.gptexp_sweeper.SlotsLauncher"
    # jobs at once; null: as many as the GPUs allow, on a machine without GPUs one
    slots: int | None = None


class GptexpSweeper(Sweeper):
    def __init__(self, params: dict[str, str] | None, **settings: Any) -> None:
        super().__init__()
        self.params, self.settings = dict(params or {}), settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        from gptexp.sweeping.run_sweep import run_sweep

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        words = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        run_sweep(words, self.settings, self.config, self.hydra_context, self.launcher)


class SlotsLauncher(basic_launcher.BasicLauncher):
    """Starts one process a slot. With a single slot, jobs run in this process, as with Hydra's own launcher."""

    def __init__(self, slots: int | None) -> None:
        super().__init__()
        self.slots = slots

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        return super().launch(job_overrides, initial_job_idx)


ConfigStore.instance().store(
    group="hydra/sweeper", name="gptexp", node=SweeperConf, provider="gptexp"
)
ConfigStore.instance().store(
    group="hydra/launcher", name="slots", node=SlotsConf, provider="gptexp"
)
