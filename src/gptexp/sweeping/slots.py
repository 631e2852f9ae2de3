"""A pool of processes: one job a slot at a time, on GPUs or CPU cores of its own; the next starts when one ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from gptexp.distributed.launcher import threads_per_rank
from gptexp.distributed.signals import STOP_SIGNALS, print_first_interrupt
from gptexp.errors import Preempted, RunError, UserError
from gptexp.machine import available_cpus, list_gpus
from gptexp.runs.sweep_folder import JobEntry, State
from gptexp.sweeping.sweep_job import NUMBER, PARENT, SWEEP
from gptexp.sweeping.sweep_plan import ClaimedJob, SweepPlan

POLL_SECONDS = 0.1
PRUNE_SECONDS = 1.0
WAIT_SECONDS = 1.0  # for jobs of other processes


@dataclass(frozen=True)
class Slot:
    """The part of this machine that one job gets."""

    cpus: frozenset[int] = frozenset()  # empty: all
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class RunningJob:
    claimed: ClaimedJob
    slot: Slot
    process: subprocess.Popen[bytes]
    start: float
    pruned: str | None = None  # why it is being stopped

    @property
    def number(self) -> int:
        return self.claimed.entry.number


def find_slots(count: int | None, devices: int, accelerator: str) -> list[Slot]:
    """Divide the GPUs and CPU cores of this machine among the jobs that run at once.

    Args:
        count: number of slots; None: as many as there are GPUs for, and one on a machine without GPUs.
        devices: GPUs of a job.

    Raises:
        UserError: there are more slots than the GPUs allow, or none.
    """
    if count is not None and count < 1:
        raise UserError(f"hydra.launcher.slots={count}: must be at least 1")
    gpus = [] if accelerator == "cpu" else list_gpus()
    fitting = len(gpus) // devices if gpus else None
    if fitting is not None and (count or 1) > max(1, fitting):
        raise UserError(
            f"hydra.launcher.slots={count}: there are {len(gpus)} GPUs, and a job takes {devices}; "
            f"type hydra.launcher.slots={max(1, fitting)}"
        )
    number = count or fitting or 1
    if number == 1:
        return [Slot()]
    slots = [_cpu_slot(index, number) for index in range(number)]
    if not gpus:
        return slots
    return [
        replace(
            slot,
            environment=slot.environment
            | {"CUDA_VISIBLE_DEVICES": ",".join(gpus[index * devices : (index + 1) * devices])},
        )
        for index, slot in enumerate(slots)
    ]


def _cpu_slot(index: int, number: int) -> Slot:
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    share = len(cpus) // number
    own = frozenset(cpus[index * share : (index + 1) * share])
    return Slot(own, {"OMP_NUM_THREADS": str(threads_per_rank(min(number, available_cpus())))})


class SlotPool:
    """Runs the jobs of a plan in the slots until there are none, or a signal arrives."""

    def __init__(self, plan: SweepPlan, slots: Sequence[Slot], command: Sequence[str]) -> None:
        self.plan, self.folder, self.command = plan, plan.folder, command
        self.free, self.running = list(slots), list[RunningJob]()
        self.signals: list[int] = []
        self.next_pruning = 0.0

    def run(self) -> None:
        """Run all jobs.

        Raises:
            Preempted: a signal has stopped the sweep; its jobs have saved.
        """
        self.folder.logs.mkdir(exist_ok=True)
        before = {number: signal.signal(number, self._receive) for number in STOP_SIGNALS}
        try:
            while True:
                while self.free and not self.signals and (claimed := self.plan.claim_next()):
                    self.running.append(job := self._start(claimed))
                    if self.signals:  # one arrived before the job was among those that run
                        self._signal(job, signal.SIGTERM)
                if not self.running and (self.signals or not self.plan.has_jobs_elsewhere()):
                    break
                time.sleep(POLL_SECONDS if self.running else WAIT_SECONDS)
                self._prune()
                for job in [job for job in self.running if job.process.poll() is not None]:
                    self._end(job)
        except (
            Exception
        ):  # such as a damaged record of a run: the jobs save and stop as after a signal
            self._receive(signal.SIGTERM, None)
            for job in [*self.running]:
                job.process.wait()
                self._end(job)
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.signals:
            raise Preempted(signal.Signals(self.signals[0]).name)

    def _start(self, claimed: ClaimedJob) -> RunningJob:
        entry, slot = claimed.entry, self.free.pop(0)
        environment = {
            **os.environ,
            **slot.environment,
            SWEEP: str(self.folder.path.resolve()),
            NUMBER: str(entry.number),
            PARENT: str(os.getpid()),
        }
        with self._log(entry).open("ab") as log:
            process = subprocess.Popen(
                [*self.command, *claimed.words],
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches the sweep alone, which forwards it
                pass_fds=[claimed.descriptor],  # the job stays claimed if the sweep is killed
            )
        if slot.cpus:
            with suppress(ProcessLookupError):
                os.sched_setaffinity(process.pid, slot.cpus)
        words = " ".join(self.plan.space.differing(entry.words))
        _print(f"job {entry.number} starts: {words}; its output: {self._log(entry)}")
        return RunningJob(claimed, slot, process, time.monotonic())

    def _end(self, job: RunningJob) -> None:
        """Write how a job has ended, where it could not itself, and free its slot."""
        self.running.remove(job)
        self.free.append(job.slot)
        code = job.process.returncode
        entry = self.folder.job(job.number)
        if job.pruned and code == Preempted.code:
            entry = self._report(entry, "pruned", job.pruned)
        elif code < 0:
            name = signal.Signals(-code).name
            state: State = "stopped" if self.signals else "failed"
            entry = self._report(entry, state, f"{name} ended its process", RunError.code)
        elif code == Preempted.code and entry.state != "stopped":  # before it could write that
            entry = self._report(entry, "stopped", "a signal", code)
        elif code and (entry == job.claimed.entry or entry.state in ("proposed", "running")):
            reason = f"exit code {code}; its output: {self._log(entry)}"
            entry = self._report(entry, "failed", reason, code)
        job.claimed.release()
        reason = f": {entry.reason.splitlines()[0]}" if entry.reason else ""
        if (earlier := self.folder.find_same_failure(entry)) is not None:
            reason = f", as job {earlier}"
        seconds = time.monotonic() - job.start
        _print(f"job {entry.number} {entry.state} after {seconds:.0f} s{reason}")

    def _report(self, entry: JobEntry, state: State, reason: str, code: int = 0) -> JobEntry:
        entry = replace(entry, state=state, reason=reason, code=code, time="")
        self.folder.add(entry)
        return entry

    def _prune(self) -> None:
        """Tell running jobs that have no prospect of becoming the best to save and stop."""
        if not self.plan.settings.prune or time.monotonic() < self.next_pruning:
            return
        self.next_pruning = time.monotonic() + PRUNE_SECONDS
        for job in self.running:
            if job.pruned is None and (reason := self.plan.explain_hopeless(job.number)):
                job.pruned = reason
                self._signal(job, signal.SIGTERM)

    def _receive(self, number: int, _: object) -> None:
        """Forward a signal to the jobs, which save and stop; a second Ctrl-C ends them at once."""
        self.signals.append(number)
        is_second = number == signal.SIGINT and len(self.signals) > 1
        for job in self.running:
            self._signal(job, signal.SIGKILL if is_second else signal.SIGTERM)
        if number == signal.SIGINT and not is_second:
            print_first_interrupt()

    def _signal(self, job: RunningJob, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(job.process.pid, number)

    def _log(self, entry: JobEntry) -> Path:
        return self.folder.logs / f"{entry.number}.log"


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
