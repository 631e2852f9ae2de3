"""Run a sweep: read its words, open its folder, and run its jobs in slots or through a launcher of Hydra."""

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict, read_write

from gptexp.config import compose, package_data
from gptexp.config.grammar import quote
from gptexp.config.run_id import as_file_name, run_id
from gptexp.config.schema import Config
from gptexp.distributed.environment import ProcessInfo, is_launched, is_requeued
from gptexp.errors import UserError, describe_error, unknown_value
from gptexp.extras import require_extra
from gptexp.files import short_hash
from gptexp.runs.sweep_folder import JobEntry, SweepFolder
from gptexp.sweeping.propose import Method
from gptexp.sweeping.search_space import Choices, SearchSpace, read_space, with_seed
from gptexp.sweeping.slots import WAIT_SECONDS, Slot, SlotPool, find_slots
from gptexp.sweeping.sweep_job import NUMBER, SWEEP
from gptexp.sweeping.sweep_plan import LOSS, ClaimedJob, SweepPlan, SweepSettings

CHOICES = {
    "method": get_args(Method),
    "objective": (LOSS, "primary_metric"),
    "seeds_for": ("all", "undecided"),
}


def run_sweep(
    words: Sequence[str],
    values: dict[str, Any],
    hydra_config: DictConfig,
    context: HydraContext,
    launcher: Launcher,
) -> None:
    """Run all jobs of a sweep, or what an earlier command has left of them.

    Args:
        words: fixed and swept settings, as Hydra parses them.
        values: the settings hydra.sweeper.KEY.

    Raises:
        UserError: the sweep cannot be run as its settings say. Preempted: a signal stopped it.
    """
    batch_size = values.pop("batch_size")
    settings = SweepSettings(**values)
    space = read_space(words)
    check_settings(settings, space)
    with ExitStack() as stack:
        sweep = _Sweep(space, settings, hydra_config, context, launcher, stack)
        if is_launched():
            sweep.run_in_lockstep()
        elif hasattr(launcher, "slots") and (slots := sweep.find_slots(launcher.slots)):
            SlotPool(sweep.open_plan(), slots, _job_command(hydra_config)).run()
        elif settings.prune:
            raise UserError(
                "hydra.sweeper.prune=true, the default of hydra/sweeper=search: only hydra/launcher=slots can stop a "
                "job; type hydra.sweeper.prune=false, or leave out hydra/launcher"
            )
        else:
            sweep.run_in_batches(batch_size)


def check_settings(settings: SweepSettings, space: SearchSpace) -> None:
    """Refuse settings that are unknown, or that do not fit the words of the sweep.

    Raises:
        UserError: there is one.
    """
    for key, choices in CHOICES.items():
        if (value := getattr(settings, key)) not in choices:
            raise unknown_value(f"hydra.sweeper.{key}", value, choices)
    if settings.margin < 0:
        raise UserError(f"hydra.sweeper.margin={settings.margin:g}: must be 0 or a positive number")
    if settings.method == "grid" and space.ranges:
        key = space.ranges[0]
        raise UserError(
            f"{key}: a grid needs values, {key}=1,2,3; to search in a range, add hydra/sweeper=search"
        )
    if settings.method == "grid":
        return
    if not space.axes:
        raise UserError(
            "hydra/sweeper=search: no setting is swept; add one, such as "
            "'optim.lr=tag(log,interval(0.001,0.1))'"
        )
    if settings.n_trials is None or settings.n_trials < 1:
        raise UserError(
            f"hydra.sweeper.n_trials={settings.n_trials}: must be the number of configs, 1 or more"
        )
    if settings.method == "tpe":
        require_extra("sweeps", ["optuna"])


class _Sweep:
    """A sweep with all that its words and Hydra say of it."""

    def __init__(
        self,
        space: SearchSpace,
        settings: SweepSettings,
        hydra_config: DictConfig,
        context: HydraContext,
        launcher: Launcher,
        stack: ExitStack,
    ) -> None:
        self.space, self.settings, self.launcher, self.stack = space, settings, launcher, stack
        self.hydra_config, self.context = hydra_config, context
        self.first = self._compose_first()

    def open_plan(self) -> SweepPlan:
        """Create or open the folder, mark it while `stack` is open, and tell the processes of the sweep where it is."""
        space, settings = self.space, self.settings
        path = Path(self.first.outputs) / self._folder_name()
        if self.first.fresh and path.exists() and not is_requeued():
            print(f"the earlier sweep is now {SweepFolder(path).archive()}", file=sys.stderr)
        folder = SweepFolder.create(
            path,
            command=[sys.executable, *sys.argv],
            keys=[key.lstrip("+") for key in space.axes],
            seeds=space.seeds or None,
            seeds_for=settings.seeds_for,
            objective=settings.objective,
            margin=settings.margin,
            n_jobs=self._count_jobs(),
        )
        self.stack.enter_context(folder.work())
        os.environ[SWEEP] = str(folder.path.resolve())
        plan = SweepPlan(folder, space, settings)
        if settings.method == "grid":
            plan.add_grid()
        return plan

    def find_slots(self, count: int | None) -> list[Slot]:
        """Return the slots for processes; none where the jobs can as well run in this process, one after another."""
        devices = [str(self.first.trainer.devices)]
        if isinstance(axis := self.space.axes.get("trainer.devices"), Choices):
            devices = list(axis.values)
        slots = find_slots(count, max(map(int, devices)), self.first.trainer.accelerator)
        return slots if len(slots) > 1 or self.settings.prune else []

    def run_in_batches(self, batch_size: int | None) -> None:
        """Run the jobs through a launcher of Hydra, which returns when all jobs of a batch have ended."""
        plan, size = self.open_plan(), math.inf
        if isinstance(self.launcher, BasicLauncher):
            size = 1
        elif self.settings.method != "grid" or self.settings.seeds_for != "all":
            size = batch_size or self.hydra_config.hydra.launcher.get("n_jobs") or 1
        while True:
            batch: list[ClaimedJob] = []
            while len(batch) < size and (job := plan.claim_next()):
                batch.append(job)
            if batch:
                self._launch(plan.folder, [(job.entry, job.words) for job in batch])
                for job in batch:
                    job.release()
            elif plan.has_jobs_elsewhere():
                time.sleep(WAIT_SECONDS)
            else:
                return

    def run_in_lockstep(self) -> None:
        """Run all jobs of a grid in this process, as the other ranks that torchrun or srun has started do."""
        if self.settings.method != "grid" or self.settings.seeds_for != "all":
            raise UserError(
                "hydra/sweeper=search starts processes itself: start it without torchrun and srun; "
                "trainer.devices=N gives each job several devices"
            )
        if self.settings.prune:
            raise UserError(
                "hydra.sweeper.prune=true: no job can be stopped under torchrun and srun; "
                "type hydra.sweeper.prune=false, or start without them"
            )
        seeds = self.space.seeds or (None,)
        jobs = [with_seed(words, seed) for seed in seeds for words in self.space.grid()]
        if ProcessInfo.from_env().is_rank_zero:
            folder = self.open_plan().folder
            key = self.space.values_and_seed
            entries = {key(entry.overrides): entry for entry in folder.jobs()}
            self._launch(folder, [(entries[key(words)], words) for words in jobs])
        else:
            self.launcher.launch(jobs, initial_job_idx=0)

    def _launch(self, folder: SweepFolder, jobs: list[tuple[JobEntry, list[str]]]) -> None:
        """Run jobs with these words, and tell each of them where it reports to."""
        path = quote(str(folder.path.resolve()))
        words_of_jobs = [
            [
                *words,
                f"++hydra.job.env_set.{SWEEP}={path}",
                f"++hydra.job.env_set.{NUMBER}='{entry.number}'",
            ]
            for entry, words in jobs
        ]
        returns = self.launcher.launch(words_of_jobs, initial_job_idx=jobs[0][0].number - 1)
        for (entry, _), job in zip(jobs, returns, strict=True):
            try:
                _ = job.return_value  # raises what the job has raised
            except Exception as error:
                failed = replace(entry, state="failed", reason=describe_error(error), code=1)
                folder.add(replace(failed, time=""))

    def _compose(self, words: list[str]) -> DictConfig:
        config = self.context.config_loader.load_sweep_config(self.hydra_config, words)
        with read_write(config), open_dict(config):
            del config["hydra"]
        return config

    def _compose_first(self) -> Config:
        """Return the config of the first job that has a valid one.

        Raises:
            UserError: no job has one, or a value of a grid is none for its setting.
        """
        space = self.space
        starts = {key: axis.value_at(0) for key, axis in space.axes.items()}
        configs = space.grid() if self.settings.method == "grid" else [space.words(starts)]
        seed = space.seeds[0] if space.seeds else None
        first: Config | None = None
        errors: list[UserError] = []
        for words in configs:
            job = with_seed(words, seed)
            composed = self._compose(
                job
            )  # all: a word that Hydra refuses is refused before the first job
            if first is None:
                try:
                    config = compose.validate(composed, job)
                    config.task.check_lengths(config.model.context)
                    first = config
                except UserError as error:
                    errors.append(error)
        if first is None:
            raise errors[0]
        return first

    def _folder_name(self) -> str:
        """Return sweep-NAME-ID: the ID covers all that defines the sweep but the numbers of its configs and seeds."""
        name = self.hydra_config.hydra.job.config_name
        name = self.first.task.kind if name == "config" else name
        if self.first.name and "name" not in self.space.axes:
            name = self.first.name
        axes = {key.lstrip("+"): str(axis) for key, axis in self.space.axes.items()}
        definition = [run_id(self.first), axes, self.settings.method, self.settings.seed]
        return (
            f"sweep-{as_file_name(name)}-{short_hash(json.dumps(definition, sort_keys=True))[:8]}"
        )

    def _count_jobs(self) -> int | None:
        """Return the number of all jobs; None: it depends on their results."""
        n_seeds, settings = len(self.space.seeds) or 1, self.settings
        if n_seeds > 1 and (settings.prune or settings.seeds_for != "all"):
            return None
        size = self.space.size
        return (
            int(size if settings.method == "grid" else min(size, settings.n_trials or 0)) * n_seeds
        )


def _job_command(hydra_config: DictConfig) -> list[str]:
    """Return the command of one job, without the words that are its own."""
    job, runtime = hydra_config.hydra.job, hydra_config.hydra.runtime
    folders = {source.provider: source.path for source in runtime.config_sources}
    options = ["-cn", job.config_name]
    if "command-line" in folders:
        options += ["--config-dir", folders["command-line"]]
    if Path(folders["main"]).resolve() != Path(package_data.conf_folder()).resolve():
        options += ["--config-path", folders["main"]]
    own = ("hydra.mode", "hydra/sweeper", "hydra.sweeper", "hydra/launcher", "hydra.launcher")
    words = [
        word for word in hydra_config.hydra.overrides.hydra if not word.lstrip("+").startswith(own)
    ]
    return [sys.executable, "-m", "gptexp.run", *options, *words, "hydra.mode=RUN"]
