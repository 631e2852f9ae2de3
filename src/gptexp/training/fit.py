"""From a run folder to a trained and scored model: the program of every rank.

python -m gptexp.training.fit RUN_FOLDER
"""

import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning.fabric.utilities.warnings import disable_possible_user_warnings

from gptexp.checkpoints import checkpoint
from gptexp.checkpoints.load_model import build_model, load_run
from gptexp.config import schema
from gptexp.config.schema import Config
from gptexp.data.datamodule import DataModule
from gptexp.distributed import launcher
from gptexp.distributed.devices import lightning_precision, pick_device
from gptexp.distributed.environment import is_launched, is_under_slurm
from gptexp.distributed.process_group import ProcessGroup
from gptexp.distributed.signals import StopSignals, requeue_slurm_job
from gptexp.distributed.strategies import lightning_strategy
from gptexp.errors import OutOfMemoryError, Preempted, RunError, UserError
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.trackers import Tracker, open_tracker
from gptexp.tasks.prepare import TaskData, prepare
from gptexp.training.crash import NotFiniteError, record_crash
from gptexp.training.evaluation import batch_size, evaluate
from gptexp.training.module import Module
from gptexp.training.progress_bar import Progress
from gptexp.training.recorder import Recorder
from gptexp.training.restore import fingerprint_of, restore


def start(folder: RunFolder, config: Config, prepared: TaskData) -> None:
    """Train the run: in this process, or in one process a device.

    Raises:
        RunError: it failed. Stopped: a signal asked it to stop, and it is saved.
    """
    if config.trainer.nodes > 1 and not is_launched():
        raise UserError(
            f"trainer.nodes={config.trainer.nodes}: start this command on every machine, with torchrun or srun "
            f"(docs/clusters.md has the commands)"
        )
    if config.trainer.devices == 1 or is_launched():
        fit(folder, config, prepared)
    else:
        launcher.launch(folder.path, config.trainer.devices)


def fit(folder: RunFolder, config: Config, prepared: TaskData | None = None) -> None:
    """Train and score, as the rank that the environment says this process is."""
    silence_lightning()
    process_group, stop = ProcessGroup.from_env(), StopSignals()
    check_batch(config.trainer, process_group)
    with stop.handle():
        process_group.init(pick_device(config.trainer.accelerator))
        prepared = prepared or prepare(config, folder.tokenizer)
        found = process_group.broadcast_from_rank_zero(
            lambda: checkpoint.latest_valid(folder.checkpoints)
        )
        if process_group.is_rank_zero:
            folder.truncate_metrics(checkpoint.read_state(found)["step"] if found else 0)
        tracker = open_tracker(config, folder) if process_group.is_rank_zero else Tracker()
        failed = True
        try:
            done = _train(folder, config, prepared, process_group, stop, tracker, found)
            _report(folder, config, prepared, done, process_group, tracker)
            failed = False
        except BaseException as error:
            if isinstance(error, OutOfMemoryError):
                folder.write_record("micro_batch", micro_batch_size=error.micro_batch_size)
            if process_group.is_rank_zero:
                was_stopped = isinstance(error, Preempted | KeyboardInterrupt)
                folder.update_result(
                    status="stopped" if was_stopped else "failed", error=f"{error!r}"
                )
                failed = not isinstance(error, Preempted)
                if not failed and stop.received == signal.SIGUSR1:
                    requeue_slurm_job()
            raise
        finally:
            tracker.close(failed)
    process_group.barrier()  # the first rank has written the result, which the others may read


def _train(
    folder: RunFolder,
    config: Config,
    prepared: TaskData,
    process_group: ProcessGroup,
    stop: StopSignals,
    tracker: Tracker,
    found: Path | None,
) -> dict[str, Any]:
    """Train to the last step, and tell what it took. Model and optimizer are gone from memory afterwards."""
    torch.manual_seed(config.seed)
    model = build_model(config, prepared.store.tokenizer.vocab_size)
    model.activation_checkpointing = config.trainer.activation_checkpointing
    module = Module(model, config, process_group, stop)
    recorder = Recorder(config, folder, tracker, process_group, fingerprint_of(config, prepared))
    restore(module, recorder, found)
    if module.step < config.trainer.max_steps:
        if config.trainer.compile:
            for block in [*model.blocks, *(model.encoder.blocks if model.encoder else [])]:
                block.compile()  # in place: checkpoints keep the plain names
        train, val = _sequences(config, prepared)
        data = DataModule(
            train,
            val,
            config.trainer,
            config.seed,
            lambda: module.step,
            lambda: held_out_batch(module),
        )
        trainer = _trainer(config, recorder, process_group, validates=val is not None)
        try:
            with stop.delay_stop():
                trainer.fit(module, data)
        except NotFiniteError as error:
            raise record_crash(folder, module, process_group, error) from None
    return {
        "steps": module.step,
        "tokens": module.tokens,
        "train_seconds": round(module.seconds, 3),
    }


def silence_lightning() -> None:
    """Lightning's advice is for its own users; ours read one line or none."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    disable_possible_user_warnings()  # "does not have many workers" and the like
    warnings.filterwarnings(
        "ignore", ".*isinstance.treespec, LeafSpec.*", FutureWarning
    )  # inside Lightning


def check_batch(settings: schema.TrainerConfig, process_group: ProcessGroup) -> None:
    if settings.global_batch_size % process_group.size:
        raise UserError(
            f"trainer.global_batch_size={settings.global_batch_size} must be a multiple of the "
            f"number of processes, {process_group.size}"
        )


def held_out_batch(module: Module) -> int:
    """Sequences of a validation batch: no more than a micro-batch, which has fitted in training."""
    batch = batch_size(module.config.model.context)
    return min(batch, module.micro_batch_size or batch)


def _sequences(config: Config, prepared: TaskData) -> tuple[Any, Any]:
    layout, store = prepared.task.layout, prepared.store
    return (
        layout.dataset(store, "train", config.seed),
        layout.dataset(store, "val", None) if store.has("val") else None,
    )


def _trainer(
    config: Config, recorder: Recorder, process_group: ProcessGroup, validates: bool
) -> L.Trainer:
    settings = config.trainer
    device = pick_device(settings.accelerator)
    shows = settings.progress and process_group.is_rank_zero
    return L.Trainer(
        accelerator=device.type,
        devices=process_group.local_size,
        num_nodes=process_group.nodes,
        strategy=lightning_strategy(settings, process_group),
        precision=lightning_precision(settings.precision, device),
        deterministic=settings.deterministic,
        max_epochs=-1,
        max_steps=-1,
        limit_val_batches=None if validates else 0,
        reload_dataloaders_every_n_epochs=1,  # an epoch is the stretch up to the next validation
        callbacks=[recorder, *([Progress(recorder, settings.max_steps)] if shows else [])],
        plugins=[
            SLURMEnvironment(auto_requeue=False) if is_under_slurm() else LightningEnvironment()
        ],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def _report(
    folder: RunFolder,
    config: Config,
    prepared: TaskData,
    done: dict[str, Any],
    process_group: ProcessGroup,
    tracker: Tracker,
) -> None:
    """Evaluate the best checkpoint on the test split (validation where there is no test) and write the result."""
    device = pick_device(config.trainer.accelerator)
    model, _ = load_run(folder)
    model.to(device)
    splits = [name for name in ("val", "test") if prepared.store.has(name)]
    best = folder.best_checkpoint()
    assert best is not None
    metrics: dict[str, float] = {}
    if splits:
        metrics |= checkpoint.read_state(best)["metrics"]
        found = [
            evaluate(
                model, prepared.task, prepared.store, split, config.trainer.precision, process_group
            )
            for split in [splits[-1], *["unseen"] * prepared.store.has("unseen")]
        ]
        metrics |= {
            name: value for evaluation in found for name, value in evaluation.metrics.items()
        }
    if not process_group.is_rank_zero:
        return
    if splits:
        folder.write_samples(found[0].samples)
    folder.update_result(
        status="finished",
        error=None,
        **done,
        tokens_per_second=round(done["tokens"] / max(1e-9, done["train_seconds"]), 1),
        parameters=sum(p.numel() for p in model.parameters()),
        precision=lightning_precision(config.trainer.precision, device),
        evaluated=best.name,
        primary_metric=f"{splits[-1] if splits else 'test'}/{prepared.task.primary_metric}",
        metrics=metrics,
        remarks=prepared.task.remarks(
            metrics, splits[-1], found[0].baseline, config.init or config.resume
        )
        if splits
        else [],
    )
    tracker.finish(metrics, folder.samples())


def _main(path: Path) -> None:
    """A rank that our own parent has started: it ends with the parent, and tells it in a file why it failed."""
    _end_with(int(os.environ[launcher.PARENT]))
    rank = ProcessGroup.from_env().rank
    try:
        fit(RunFolder(path), RunFolder(path).config())
        ProcessGroup.exit()
    except Preempted:
        ProcessGroup.exit(Preempted.code)
        os._exit(Preempted.code)  # before the ranks had met
    except OutOfMemoryError:
        os._exit(OutOfMemoryError.code)
    except (RunError, UserError) as error:
        launcher.write_failure(path, rank, str(error))
        os._exit(1)
    except Exception:
        launcher.write_failure(path, rank, traceback.format_exc())
        os._exit(1)


def _end_with(parent: int) -> None:
    """A parent that was killed cannot tell its ranks."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.1)
        os._exit(1)

    if os.getppid() != parent:  # it has gone while we were starting
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
