"""Rank and size of this process, read from the environment of torchrun, SLURM or our own launcher."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from gptexp.errors import UserError

# Names that SLURM gives to the job of a shell.
SHELL_JOBS = ("interactive", "bash", "sh", "zsh", "fish", "tcsh")
LAUNCHER_VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)


@dataclass(frozen=True)
class ProcessInfo:
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def from_env(cls) -> Self:
        """Read RANK and its companions, or SLURM's variables; without either, this is the only process.

        Raises:
            UserError: RANK is set without its companions, or a variable has a value that is out of its range.
        """
        env = os.environ
        if "RANK" in env:
            required = {"WORLD_SIZE", "LOCAL_RANK"}
            if env.get("WORLD_SIZE", "1") != "1":
                required |= {"MASTER_ADDR", "MASTER_PORT"}
            if missing := required - {name for name in env if env[name]}:
                raise UserError(
                    f"the environment has RANK without {' and '.join(sorted(missing))}: "
                    f"start the command with torchrun, or type: {unset_command()}"
                )
            size = _read_number(env, "WORLD_SIZE", minimum=1)
            local_size = _read_number(env, "LOCAL_WORLD_SIZE", size, minimum=1, maximum=size)
            return cls(
                _read_number(env, "RANK", maximum=size - 1),
                size,
                _read_number(env, "LOCAL_RANK", maximum=local_size - 1),
                local_size,
            )
        if is_under_slurm():
            size = _read_number(env, "SLURM_NTASKS", minimum=1)
            nodes = _read_number(env, "SLURM_NNODES", 1, minimum=1, maximum=size)
            return cls(
                _read_number(env, "SLURM_PROCID", maximum=size - 1),
                size,
                _read_number(env, "SLURM_LOCALID"),
                size // nodes,
            )
        return cls()

    @property
    def is_rank_zero(self) -> bool:
        return self.rank == 0

    @property
    def nodes(self) -> int:
        return self.size // self.local_size


def is_under_slurm() -> bool:
    """Return whether srun started this process as one of several; the shell of a job does not count."""
    return (
        "SLURM_STEP_ID" in os.environ
        and _read_number(os.environ, "SLURM_NTASKS", 1) > 1
        and not _is_in_slurm_shell()
    )


def is_launched() -> bool:
    """Return whether a launcher (ours, torchrun or srun) started this process as one rank."""
    return "RANK" in os.environ or is_under_slurm()


def is_requeued() -> bool:
    """Return whether SLURM has put this job back into its queue, and repeats its command.

    Raises:
        UserError: SLURM_RESTART_COUNT is no number.
    """
    return _read_number(os.environ, "SLURM_RESTART_COUNT", 0) > 0


def explain_single_process() -> str | None:
    """Return a remark for a run in an interactive shell of SLURM, which uses one of the job's tasks; else None."""
    tasks = os.environ.get("SLURM_NTASKS", "1")
    if tasks == "1" or "SLURM_STEP_ID" not in os.environ or is_launched():
        return None
    return (
        f"SLURM: this is an interactive shell, so this process trains by itself; "
        f"to use the {tasks} tasks of the job: srun python -m gptexp.run ..."
    )


def unset_command() -> str:
    """Return the command that removes the variables of a launcher from the environment of a shell."""
    return f"unset {' '.join(name for name in LAUNCHER_VARIABLES if name in os.environ)}"


def slurm_main_address() -> tuple[str, str]:
    """Return the host and the port at which the processes of a SLURM step meet: MASTER_ADDR and MASTER_PORT if set."""
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "127.0.0.1")
    first = re.sub(r"\[(\w+).*?\]", r"\1", nodes).split(",")[0]  # gpu[03-05,09],cpu1: gpu03
    job = re.sub(r"\D", "", os.environ.get("SLURM_JOB_ID", ""))[-4:] or "0"
    port = 15000 + int(job)
    return os.environ.get("MASTER_ADDR") or first, os.environ.get("MASTER_PORT") or str(port)


def _is_in_slurm_shell() -> bool:
    """Return whether this process was typed into a shell that salloc or `srun --pty` started.

    The shell has the environment of a task. A process that srun starts itself is the task, SLURM_TASK_PID.
    """
    is_shell = os.environ.get("SLURM_JOB_NAME") in SHELL_JOBS or "SLURM_PTY_PORT" in os.environ
    return is_shell and os.environ.get("SLURM_TASK_PID") != str(os.getpid())


def _read_number(
    env: Mapping[str, str],
    name: str,
    default: int | None = None,
    minimum: int = 0,
    maximum: int | None = None,
) -> int:
    """Return the whole number in an environment variable.

    Raises:
        UserError: it is no number, or it is out of its range.
    """
    text = env.get(name, "" if default is None else str(default))
    value = int(text) if re.fullmatch(r"\d{1,9}", text) else -1
    if value < minimum or (maximum is not None and value > maximum):
        limit = "" if maximum is None else f" to {maximum}"
        raise UserError(
            f"{name}={text} in the environment: must be a whole number from {minimum}{limit}. "
            f"Start the command with a launcher, or type: unset {name}"
        )
    return value
