"""The next job of a sweep: unfinished ones first, then new configs, then seeds where they are worth their time."""

import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass

from gptexp.runs.sweep_folder import FINAL, JobEntry, SweepFolder
from gptexp.sweeping.propose import Method, Trial, propose
from gptexp.sweeping.pruning import Curve, explain_hopeless, read_curve
from gptexp.sweeping.search_space import SearchSpace, seed_of, with_seed
from gptexp.sweeping.undecided import find_undecided

LOSS = "val/loss"


@dataclass
class SweepSettings:
    """The settings hydra.sweeper.KEY, which hydra_plugins/gptexp_sweeper.py documents."""

    method: Method = "grid"
    n_trials: int | None = None
    seed: int = 1
    objective: str = LOSS
    prune: bool = False
    seeds_for: str = "all"
    margin: float = 0.0


@dataclass
class ClaimedJob:
    """A job that this process may run: no other one can claim it while the descriptor is open anywhere."""

    entry: JobEntry
    words: list[str]  # to start it with
    descriptor: int

    def release(self) -> None:
        os.close(self.descriptor)


class SweepPlan:
    """Decides by what is in the sweep's folder, so any number of processes may work on one sweep."""

    def __init__(self, folder: SweepFolder, space: SearchSpace, settings: SweepSettings) -> None:
        self.folder, self.space, self.settings = folder, space, settings
        self.started: set[int] = set()  # numbers of the jobs that this process has claimed
        self._curves: dict[tuple[str, int, bool], Curve | None] = {}

    @property
    def seeds(self) -> Sequence[int | None]:
        return self.space.seeds or (None,)

    def add_grid(self) -> None:
        """Add the jobs of a grid that are not in the folder yet: all configs with one seed, then with the next."""
        seeds = self.seeds if self.settings.seeds_for == "all" else self.seeds[:1]
        if self.settings.prune:  # a config that is pruned needs no further seed
            seeds = self.seeds[:1]
        with self.folder.lock():
            jobs = self.folder.jobs()
            known = {self.space.values_and_seed(job.overrides) for job in jobs}
            for seed in seeds:
                for words in self.space.grid():
                    job = with_seed(words, seed)
                    if self.space.values_and_seed(job) not in known:
                        jobs.append(self._add(job, jobs))

    def claim_next(self) -> ClaimedJob | None:
        """Claim the job to run next; None: there is nothing to start now."""
        with self.folder.lock():
            jobs = self.folder.jobs()
            for entry in jobs:
                if self._is_open(entry, jobs) and (claimed := self._claim(entry)):
                    return claimed
            words = self._new_config(jobs) or self._new_seed(jobs)
            return self._claim(self._add(words, jobs)) if words else None

    def has_jobs_elsewhere(self) -> bool:
        """Return whether other processes have jobs, which may leave them or ask for more by their results."""
        jobs = self.folder.jobs()
        return any(job.state not in FINAL and job.number not in self.started for job in jobs)

    def explain_hopeless(self, number: int) -> str | None:
        """Return why a running job should stop; None: it should not. Only the first seed of a config is pruned."""
        jobs = self.folder.jobs()
        entry = next(job for job in jobs if job.number == number)
        return self._explain_hopeless(entry, jobs)

    def _explain_hopeless(self, entry: JobEntry, jobs: list[JobEntry]) -> str | None:
        if not self.settings.prune or self._seed_of(entry) != self.seeds[0]:
            return None
        curve = self._curve(entry)
        others = [self._curve(job) for job in jobs if job.number != entry.number]
        is_pruned = entry.state == "pruned"
        return explain_hopeless(curve, [x for x in others if x], is_pruned) if curve else None

    def _seed_of(self, entry: JobEntry) -> int | None:
        return self.space.values_and_seed(entry.overrides)[1]

    def _is_open(self, entry: JobEntry, jobs: list[JobEntry]) -> bool:
        """Return whether a job has to be run, or to go on."""
        if entry.state == "pruned":  # what has finished since may show that it was pruned too early
            return self._explain_hopeless(entry, jobs) is None
        if entry.number in self.started or (entry.state == "finished" and self._has_result(entry)):
            return False
        return not (entry.state == "failed" and self._has_diverged(entry))

    def _has_result(self, entry: JobEntry) -> bool:
        run = self.folder.run_folder(entry)
        return run is not None and run.result().get("status") == "finished"

    def _has_diverged(self, entry: JobEntry) -> bool:
        run = self.folder.run_folder(entry)
        return bool(run and run.read_record("crash"))

    def _new_config(self, jobs: list[JobEntry]) -> list[str] | None:
        """Propose a config with the first seed."""
        settings = self.settings
        if settings.method == "grid":
            return None
        first = [job for job in jobs if self._seed_of(job) == self.seeds[0]]
        if len(first) >= (settings.n_trials or 0):
            return None
        trials = [self._trial(job) for job in first]
        values = propose(self.space, settings.method, settings.seed, trials)
        return with_seed(self.space.words(values), self.seeds[0]) if values else None

    def _new_seed(self, jobs: list[JobEntry]) -> list[str] | None:
        """Return a config with its next seed: the best one first, which also tells how noisy all of them are."""
        seeds_of: dict[tuple[str, ...], list[int | None]] = {}
        values: dict[tuple[str, ...], dict[int, float]] = {}
        for job in jobs:
            config, seed = self.space.values_and_seed(job.overrides)
            seeds_of.setdefault(config, []).append(seed)
            objective = self._objective(job) if job.state == "finished" else None
            if objective is not None:
                values.setdefault(config, {})[seed or 0] = objective
        if self.settings.seeds_for == "undecided" and len(seeds_of) > 1:
            # The only config that has finished so far is no verdict.
            planned, margin = len(self.seeds), self.settings.margin
            configs = find_undecided(values, planned, margin) if len(values) > 1 else []
        else:
            states = {"finished"} if self.settings.prune else {"finished", "running", "proposed"}
            of_states = [job.overrides for job in jobs if job.state in states]
            configs = list(dict.fromkeys(self.space.values_and_seed(x)[0] for x in of_states))
            configs.sort(key=lambda config: len(seeds_of[config]))
        for config in configs:
            for seed in self.seeds:
                if seed not in seeds_of[config]:
                    words = self.space.words(dict(zip(self.space.axes, config, strict=True)))
                    return with_seed(words, seed)
        return None

    def _trial(self, entry: JobEntry) -> Trial:
        values = self.space.values_of(entry.overrides)
        curve = self._curve(entry)
        losses = curve.losses if curve else {}
        if entry.state == "finished" and (objective := self._objective(entry)) is not None:
            return Trial(values, "finished", objective, losses)
        if entry.state == "pruned":
            return Trial(values, "pruned", losses=losses)
        return Trial(values, "failed" if entry.state in FINAL else "running", losses=losses)

    def _objective(self, entry: JobEntry) -> float | None:
        """Return what a search minimises and seeds are to decide; None where the run has no such metric."""
        run = self.folder.run_folder(entry)
        result = run.result() if run else {}
        is_loss = self.settings.objective == LOSS
        value = result.get("metrics", {}).get(LOSS if is_loss else result.get("primary_metric"))
        return -value if value is not None and not is_loss and result["higher_is_better"] else value

    def _curve(self, entry: JobEntry) -> Curve | None:
        """Return the validation losses of a job, read again only where its metrics have grown."""
        run = self.folder.run_folder(entry)
        if run is None or not run.metrics_file.is_file():
            return None
        is_finished = entry.state == "finished"
        key = (run.name, run.metrics_file.stat().st_size, is_finished)
        if key not in self._curves:
            self._curves[key] = read_curve(run, is_finished)
        return self._curves[key]

    def _add(self, words: list[str], jobs: list[JobEntry]) -> JobEntry:
        number = max((job.number for job in jobs), default=0) + 1
        if jobs:  # the words of the jobs of a sweep differ in their swept values and seeds alone
            words = self.space.words_like(jobs[0].overrides, words)
        entry = JobEntry(number, words, "proposed")
        self.folder.add(entry)
        return entry

    def _claim(self, entry: JobEntry) -> ClaimedJob | None:
        descriptor = self._lock(entry.number)
        if descriptor is None:
            return None
        self.started.add(entry.number)
        return ClaimedJob(entry, self._words(entry), descriptor)

    def _words(self, entry: JobEntry) -> list[str]:
        """Return the words to start a job with: its values, and what is the same for all jobs of this command."""
        words = self.space.words(self.space.values_of(entry.overrides))
        words = with_seed(words, seed_of(entry.overrides))
        # A job that goes on where it stopped does not begin afresh.
        return [word for word in words if not (entry.run and word.lower() == "fresh=true")]

    def _lock(self, number: int) -> int | None:
        """Lock a job; None: another process holds it. The lock lasts while a process has the descriptor open."""
        claims = self.folder.path / ".claims"
        claims.mkdir(exist_ok=True)
        descriptor = os.open(claims / str(number), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor
