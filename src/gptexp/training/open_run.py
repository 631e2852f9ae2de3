"""Open a run before anything slow begins: find its folder, lock it, and find what it starts from. No torch here."""

import os
import sys
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gptexp.checkpoints.find_weights import PretrainedFolder, find_weights
from gptexp.config import compose, run_id
from gptexp.config.resume_rules import check_init, check_resume, with_tokenizer_of
from gptexp.config.schema import Config
from gptexp.data.corpora.find_files import check_paths
from gptexp.distributed.compiler import check_compiler
from gptexp.distributed.environment import is_requeued
from gptexp.errors import UserError
from gptexp.runs.run_folder import RunFolder, find_run
from gptexp.runs.trackers import check_tracker

if TYPE_CHECKING:
    from gptexp.data.token_store import TokenStore


@dataclass
class RunSetup:
    """A run that is open: its folder, and what it starts from."""

    config: Config  # with `init_digest` filled in
    folder: RunFolder
    tokenizer: Path | None  # of the run, or of the weights that it starts from
    is_finished: bool
    resumed: RunFolder | None = None  # whose progress a new folder starts with


def open_run(config: Config, suffix: str, stack: ExitStack) -> RunSetup:
    """Find the run's folder and lock it until `stack` closes."""
    config, source, notes = _find_source(config)
    folder = RunFolder(Path(config.outputs) / run_id.folder_name(config, suffix))
    try:
        folder.path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _explain_outputs(config.outputs, error) from None
    stack.enter_context(folder.lock())
    if config.fresh and folder.path.exists() and not is_requeued():  # then the run continues
        print(f"the earlier run is now {folder.archive()}", file=sys.stderr)
    is_finished = folder.result().get("status") == "finished"
    if not is_finished:
        check_paths(config.data)
        check_tracker(config)
        check_compiler(config)
    resumed = source if not config.init and isinstance(source, RunFolder) else None
    if folder.checkpoint():  # of its own: this is not its first start
        resumed, notes = None, []
    for note in notes:
        print(note, file=sys.stderr)
    if not (folder.path.exists() or config.resume or config.fresh):
        _hint_previous_run(config)
    tokenizer = (
        folder.tokenizer if folder.tokenizer.is_file() or source is None else source.tokenizer
    )
    return RunSetup(config, folder, tokenizer, is_finished, resumed)


def _explain_outputs(outputs: str, error: OSError) -> UserError:
    """Return the error for a folder of runs that cannot be made."""
    place = Path(outputs)
    if file := next((path for path in (place, *place.parents) if os.path.isfile(path)), None):
        return UserError(f"outputs={outputs}: {file} is a file, and a folder is needed")
    return UserError(
        f"outputs={outputs}: no folder can be made there ({error.strerror}); choose another one"
    )


def _find_source(config: Config) -> tuple[Config, RunFolder | PretrainedFolder | None, list[str]]:
    """Find the run or the weights that a run starts from, and fill in `init_digest`.

    Returns:
        The config, the source, and lines about settings that differ from those of the source.

    Raises:
        UserError: there is no such source, or its settings do not fit.
    """
    outputs = Path(config.outputs)
    if config.init:
        source = find_weights(config.init, outputs)
        if config.init == "base":
            print(
                "starting from base, the weights that gptexp ships (init=scratch starts from random weights)",
                file=sys.stderr,
            )
        trained = source.config() if isinstance(source, RunFolder) else None
        notes = check_init(config, trained)
        config = with_tokenizer_of(config, trained) if trained else config
        digest, path = source.weights_digest(), str(source.path.resolve())
        return replace(config, init_digest=digest, init=path), source, notes
    if config.resume:
        if (Path(config.resume).expanduser() / "config.json").is_file():
            raise UserError(
                f"resume={config.resume}: is a model without the state of a training. Start a new training from its "
                f"weights: init={config.resume} instead of resume="
            )
        run = find_run(config.resume, outputs)
        digest, path = run.weights_digest("last"), str(run.path.resolve())
        config, earlier = replace(config, init_digest=digest, resume=path), run.config()
        config.optim.fill_rates(config, earlier.optim)
        config = with_tokenizer_of(config, earlier)
        done = run.steps_done()
        notes = check_resume(config, earlier, str(run.path), done)
        if notes:
            steps = f"step {done} of {run.path}"
            notes = [f"continuing from {steps} with other settings:", *(f"  {x}" for x in notes)]
        return config, run, notes
    return config, None, []


def check_same_data(folder: RunFolder, fingerprint: str, accepted: list[str]) -> None:
    """Refuse to resume a run on data that has changed.

    Raises:
        UserError: it has changed, and allow_mismatch does not accept that.
    """
    before = folder.read_record("data").get("fingerprint", fingerprint)
    if before != fingerprint and "data" not in accepted:
        raise UserError(
            f"{folder.path}: its data has changed since it was trained (fingerprint {before}, now {fingerprint}). "
            f"Start again with fresh=true, or continue all the same with allow_mismatch=[data]"
        )


def copy_progress(
    source: RunFolder, folder: RunFolder, config: Config, store: "TokenStore"
) -> None:
    """Let a new run folder start with the progress of the run that it continues.

    Raises:
        UserError: that run is being trained, has no complete checkpoint, or has another model, tokenizer, optimizer or
            other data; there is no new folder then.
    """
    from gptexp.checkpoints.checkpointer import Checkpointer
    from gptexp.checkpoints.fingerprint import check_fingerprint, compute_fingerprint
    from gptexp.distributed.process_group import ProcessGroup

    with source.lock() if os.access(source.path.parent, os.W_OK) else nullcontext():
        checkpoint = Checkpointer(source.checkpoints, ProcessGroup()).find_complete()
        if checkpoint is None:
            raise UserError(
                f"resume={source.path}: none of its checkpoints is complete, so there is nothing to continue from"
            )
        advice = f"init={source.path} instead of resume= starts a new training from its weights"
        ours = compute_fingerprint(config, store)
        check_fingerprint(checkpoint, ours, config.allow_mismatch, advice)
        folder.copy_progress_from(source)


def _hint_previous_run(config: Config) -> None:
    """Print which run had the same settings under an earlier version of the code, or for fewer steps."""
    max_steps = config.trainer.max_steps
    pattern = f"{run_id.folder_prefix(config)}*/config.yaml"
    others = [path for path in Path(config.outputs).glob(pattern) if "." not in path.parent.name]
    for other in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True):
        folder = RunFolder(other.parent)
        if not (done := folder.steps_done()) or (earlier := _load_readable(other)) is None:
            continue
        trainer = replace(config.trainer, max_steps=earlier.trainer.max_steps)
        if run_id.settings_id(replace(config, trainer=trainer)) != run_id.settings_id(earlier):
            continue
        advice = f"To continue that one: resume={folder.path}"
        if earlier.trainer.max_steps == max_steps:
            if done >= max_steps:
                advice += f" and more steps than the {done} that it has done"
            print(
                f"the code has changed since {folder.path} was trained with these settings: "
                f"this is a new run. {advice}",
                file=sys.stderr,
            )
            return
        if done < max_steps:
            print(
                f"{folder.path} was trained with these settings for {done} steps: this is a new run, "
                f"from the start. {advice}",
                file=sys.stderr,
            )
            return


def _load_readable(path: Path) -> Config | None:
    """Return the config of a run; None if this version of the code cannot read it."""
    try:
        return compose.load_config(path)
    except UserError:
        return None
