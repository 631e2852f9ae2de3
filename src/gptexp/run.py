"""Train, continue an interrupted run, or print the result of a finished one.

    python -m gptexp.run model=small task=summarize
    python -m gptexp.run -m task=translate seed=1,2

This module composes the config without torch; the last line on stdout is the run folder.
"""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from gptexp.command_line import sort_words
from gptexp.config import compose, package_data
from gptexp.config.grammar import find_override
from gptexp.config.hydra_errors import explain_hydra_error
from gptexp.config.overrides import explain_option, read_overrides
from gptexp.config.parallelism import check_processes
from gptexp.config.plugins import has_outside_code
from gptexp.config.schema import Config, WandbConfig
from gptexp.config.seeds import expand_seeds
from gptexp.distributed.claim_gpus import claim_gpus
from gptexp.distributed.environment import ProcessInfo, explain_single_process, is_launched
from gptexp.distributed.signals import StopSignals, ignore_interrupts
from gptexp.errors import (
    Preempted,
    RunError,
    UserError,
    describe_error,
    exits_cleanly,
    explain_error,
)
from gptexp.files import write_text
from gptexp.optional_imports import hide_optional_packages
from gptexp.output import unfailing_output
from gptexp.runs import tables
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sweep_folder import SweepFolder
from gptexp.runs.tracker_history import fill_finished
from gptexp.stages import stage
from gptexp.sweeping.sweep_job import NUMBER, SWEEP, SweepJob, stop_with_parent
from gptexp.training.open_run import check_same_data, copy_progress, open_run
from gptexp.wording import first_line

if TYPE_CHECKING:
    from gptexp.distributed.process_group import ProcessGroup

HELP = """\
Train a Transformer, continue a run that was interrupted, or print the result of a finished one.

  python -m gptexp.run model=small task=summarize
  python -m gptexp.run task=translate data.tgt=fr
  python -m gptexp.run -m task=translate seed=1,2,3

Groups (GROUP=NAME; `--cfg job` prints what a command composes)
{groups}
A task also chooses model, data and tokenizer where the command does not: task=speak takes model=nano data=spoken.

Common keys (KEY=VALUE; `python -m gptexp.settings` prints all of them with their documentation)
  trainer.max_steps   trainer.global_batch_size   trainer.devices   trainer.strategy   trainer.precision
  data.path (data=files)   data.name (data=hub)   data.src data.tgt (data=cldr)   optim.lr
  init=RUN starts from trained weights   init=scratch from random ones   fresh=true trains again   seed   name   tags
  seeds=5 trains with seed, seed+1, ... seed+4, and compares configs by more than their noise

A text with a comma stands in quotes: 'name="a, b"'. A list is KEY=[a,b], a mapping KEY={{a:b}}, null is KEY=null.
-m runs a sweep over comma-separated values; `-cn NAME -cd sweeps` runs a sweep file (shipped: {sweeps}).
plugins=[my_package] adds the choices of your own modules. --hydra-help lists the flags that come from Hydra."""


def run(
    config: Config,
    suffix: str = "",
    callbacks: Sequence[Any] = (),
    *,
    hides_optional_packages: bool = False,
    on_open: Callable[[RunFolder], None] | None = None,
) -> RunFolder:
    """Train a run, resume it, or print its result; return its folder.

    Args:
        config: a config that `compose.validate` or `compose.check_config` has checked.
        suffix: appended to the folder's name, for jobs of a sweep that have the same id.
        callbacks: Lightning callbacks, in addition to those of the config.
        hides_optional_packages: import Lightning without those, where the process executes no code but gptexp's.
        on_open: rank zero calls it with the run's folder, before anything is in it.

    Raises:
        UserError: the data, the initial weights, the callbacks, the processes and the settings do not fit together.
        RunError: the run failed; the message says why. Preempted: a signal stopped it, after it saved a checkpoint.
    """
    if callbacks and config.trainer.devices > 1 and not is_launched():
        raise UserError(
            f"trainer.devices={config.trainer.devices} starts processes, which callback objects cannot reach: "
            f"name the callbacks in the config (callbacks.NAME._target_=...), or start with torchrun"
        )
    if config.seeds > 1:
        raise UserError(
            f"seeds={config.seeds}: a command of gptexp run trains over several seeds; a YAML file and Python train "
            f"one run, with seed=..."
        )
    if not is_launched():
        check_processes(config)
    config.task.check_lengths(config.model.context)
    with ExitStack() as stack:
        stack.enter_context(unfailing_output("stdout", "stderr"))
        signals = stack.enter_context(StopSignals().handle())
        if remark := explain_single_process():
            print(remark, file=sys.stderr)
        group: ProcessGroup | None = None
        if is_launched():  # by torchrun or SLURM: rank zero opens the run for all processes
            from gptexp.distributed import process_group
            from gptexp.distributed.devices import check_launched_devices, pick_device

            group = process_group.find_process_group(config)
            device = pick_device(config.trainer.accelerator)
            group.init(device, config.trainer.cpu_offload)
            check_launched_devices(config.trainer, group, device)
            setup = group.broadcast_from_rank_zero(lambda: open_run(config, suffix, stack))
            is_rank_zero = group.is_rank_zero
        else:
            setup, is_rank_zero = open_run(config, suffix, stack), True
        config, folder = setup.config, setup.folder
        if on_open and is_rank_zero:
            on_open(folder)
        if is_rank_zero and not (setup.is_finished and folder.report_file.is_file()):
            stack.enter_context(_page_at_end(folder))
        if is_rank_zero and not setup.is_finished:
            stack.enter_context(folder.record_failure(config))
        if group is not None and group.size > 1:
            from gptexp.distributed.failure_watch import watch_failures

            stack.enter_context(
                watch_failures(group, str(folder.path), partial(_record_lost_rank, folder, group))
            )

        is_quiet = not (is_rank_zero and config.trainer.progress)
        stack.enter_context(stage(f"{folder.path}: at work", is_quiet))
        with stage("loading PyTorch"):
            from gptexp.distributed.devices import check_devices
            from gptexp.planning.before_run import check_memory
            from gptexp.tasks.prepare import prepare

        if group is None and not setup.is_finished:
            check_devices(config.trainer)
        if not setup.is_finished:
            launched = (group.size, group.local_size) if group else ()
            if (warning := check_memory(config, *launched)) and is_rank_zero:
                print(warning, file=sys.stderr)
        prepared = prepare(config, setup.tokenizer)
        signals.raise_if_received()
        if is_rank_zero and not prepared.store.is_new:
            print(prepared.store.account.summary(), file=sys.stderr)
        check_same_data(folder, prepared.store.fingerprint, config.allow_mismatch)
        if setup.resumed is not None:
            copy = partial(copy_progress, setup.resumed, folder, config, prepared.store)
            if group:
                group.broadcast_from_rank_zero(copy)
            else:
                copy()
        if not setup.is_finished:
            if is_rank_zero:
                folder.create(config)
                store = str(prepared.store.folder)
                folder.write_record("data", **prepared.store.meta, store=store)
                prepared.store.tokenizer.save(folder.tokenizer)
            imports = hide_optional_packages() if hides_optional_packages else nullcontext()
            with stage("loading Lightning"), imports:
                from gptexp.training import fit

            fit.start(folder, config, prepared, callbacks, signals)
        if is_rank_zero:
            if setup.is_finished:
                print("finished earlier; fresh=true trains it again")
                if fill_finished(config, folder) and config.logger.kind != "none":
                    lines = len(folder.metrics())
                    text = f"logger={config.logger.kind}: filled with the {lines} lines of metrics.jsonl"
                    print(text, file=sys.stderr)
            elif isinstance(config.logger, WandbConfig) and config.logger.log_model:
                from gptexp.export import log_exported_model

                log_exported_model(config, folder)
            print(tables.result_text(folder))
            print(folder.path, flush=True)
    return folder


@contextmanager
def _page_at_end(folder: RunFolder) -> Iterator[None]:
    """Write the page of a run that has finished or failed. A page that cannot be written fails no run."""
    try:
        yield
    except Exception:
        _write_page(folder)
        raise
    _write_page(folder)


def _write_page(folder: RunFolder) -> None:
    if not (folder.path / "config.yaml").is_file():  # it failed before it had a folder
        return
    try:
        from gptexp.pages.run_page import write_run_page

        write_run_page(folder)
    except Exception as error:
        print(
            f"{folder.report_file}: was not written ({first_line(error)}); the run is complete without it",
            file=sys.stderr,
        )


def _record_lost_rank(folder: RunFolder, group: "ProcessGroup", reason: str) -> None:
    """Write the failure of another rank into result.json, on rank zero."""
    if group.is_rank_zero:
        with suppress(OSError):
            folder.update_result(status="failed", error=reason)


def main() -> None:
    code: Any = 0
    try:
        _main()
    except SystemExit as ended:
        code = ended.code
    if "torch" in sys.modules and is_launched():
        from gptexp.distributed.process_group import ProcessGroup

        if code in (0, Preempted.code):
            ProcessGroup.exit(code)
        else:
            ProcessGroup.abandon(code)
    sys.exit(code)


@exits_cleanly
def _main() -> None:
    options, words = sort_words(
        sys.argv[1:], get_args_parser()._option_string_actions, explain_option
    )
    compose.prepare_hydra(words)
    has_seeds = find_override(words, "seeds") is not None
    words = expand_seeds(words)
    if has_seeds and not {"-m", "--multirun"} & set(options):
        options = ["-m", *options]
    if {"-h", "--help"} & set(options):  # Hydra's own takes more than a second
        print(
            HELP.format(
                groups=package_data.groups_text(), sweeps=", ".join(package_data.sweep_names())
            )
        )
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors instead of printing them
    # A sweep file sets hydra.mode, which only Hydra reads.
    may_sweep = {"-m", "--multirun", "-cn"} & set(options) or any(
        word.startswith(("--config-name=", "hydra.mode=")) for word in [*options, *words]
    )
    if {"-m", "--multirun"} & set(options) and any(
        option == "-c" or option.startswith("--cfg") for option in options
    ):
        word = "seeds=" if has_seeds else "-m"
        raise UserError(
            f"{word}: cannot stand beside --cfg, which prints the config of one run; leave out {word}, and give one "
            f"value a key"
        )
    overrides = read_overrides(words, is_sweep=bool(may_sweep))
    sys.argv[1:] = [*package_data.with_shipped_sweeps(options), *overrides]
    if NUMBER not in os.environ:
        os.environ.pop(SWEEP, None)  # of a sweep that this command does not belong to
    stop_with_parent()
    codes: set[int] = set()

    @hydra.main(version_base="1.3", config_path=package_data.conf_folder(), config_name="config")
    def job(cfg: DictConfig) -> None:
        from gptexp.run import run_job  # by name: launchers pickle this function

        codes.add(run_job(cfg))

    waiting, is_over = describe_waiting(overrides), False
    try:
        with stage(waiting or "sweep", is_quiet=waiting is None):
            job()
        is_over = True
        ignore_interrupts()  # all is written, and the interpreter takes a second to end
    except compose.COMPOSE_ERRORS as error:
        raise explain_hydra_error(error, overrides) from None
    except RuntimeError as error:  # a launcher without its cluster
        raise UserError(str(error)) from None
    finally:
        if NUMBER not in os.environ and SWEEP in os.environ:
            codes |= _end_sweep(SweepFolder(os.environ[SWEEP]), is_over)
    if codes - {0}:
        sys.exit(min(codes - {0}))


def run_job(cfg: DictConfig) -> int:
    """Run one job, and return its exit code: a sweep continues with its other jobs when one fails."""
    job = SweepJob.from_env() if ProcessInfo.from_env().is_rank_zero else None
    overrides = cast(
        list[str], OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    )
    try:
        config = compose.validate(cfg, overrides)
        claim_gpus(config.trainer)
        suffix = ""
        if job:
            job.group_in_tracker(config)
            neutral = job.swept_keys() & compose.keys_without_effect(config)
            suffix = "".join(
                f"-{word.replace('trainer.', '').replace('=', '')}"
                for word in overrides
                if word.split("=")[0] in neutral
            )
        folder = run(
            config,
            suffix,
            hides_optional_packages=not has_outside_code(config),
            on_open=job.start if job else None,
        )
        if job:
            job.finish(folder)
        return 0
    except Preempted as stopped:
        if job:
            job.report("stopped", reason=f"stopped by {stopped}", code=Preempted.code)
        raise
    except Exception as error:
        explained = explain_error(error)
        code = explained.code if explained else RunError.code
        earlier = job.fail(describe_error(error), code) if job else None
        if explained is None:
            traceback.print_exc()
        elif earlier is None:
            print(f"gptexp: {explained}", file=sys.stderr)
        else:
            print(f"gptexp: it failed as job {earlier} did", file=sys.stderr)
        return code


def describe_waiting(overrides: list[str]) -> str | None:
    """Return where the jobs of a sweep write their logs, for launchers whose jobs print nothing in this terminal."""
    values = dict(word.split("=", 1) for word in overrides if "=" in word)
    if values.get("hydra/launcher") not in ("submitit", "slurm"):
        return None
    outputs = values.get("outputs", "outputs").strip("'\"")
    return f"waiting for the jobs of the sweep; their logs: {outputs}/.submitit/"


def _end_sweep(folder: SweepFolder, is_over: bool) -> set[int]:
    """Print the tables of a sweep, write results.csv and its page, and return the exit codes of its jobs."""
    jobs = folder.jobs()
    if len(jobs) > 1:
        print(tables.sweep_table(folder), file=sys.stderr)
    if jobs:
        name = os.path.relpath(folder.path)
        try:
            _write_sweep_results(folder, is_over)
        except Exception as error:
            print(
                f"{name}: its results were not written ({first_line(error)}); its jobs are complete without them",
                file=sys.stderr,
            )
        print(
            f"{name} has the jobs and their results; page: {name}/report.html; verdicts: gptexp compare {name}",
            file=sys.stderr,
        )
    return {job.code for job in jobs}


def _write_sweep_results(folder: SweepFolder, is_over: bool) -> None:
    from gptexp.comparing.sweep_results import sweep_results
    from gptexp.comparing.tables import sweep_csv
    from gptexp.comparing.terminal import sweep_text
    from gptexp.pages.sweep_page import write_sweep_page
    from gptexp.runs.wandb_uploads import log_sweep

    results = sweep_results(folder)
    if len(results.rows) < len(results.jobs):  # over seeds: the table of the configs says more
        print(sweep_text(results), file=sys.stderr)
    write_text(folder.results_file, sweep_csv(results))
    write_sweep_page(folder, results)
    if is_over:
        log_sweep(folder)


if __name__ == "__main__":
    main()
