"""From a run folder to a trained model: one program for every rank, and how the ranks are started.

python -m gptexp.training.launch RUN_FOLDER
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.warnings import disable_possible_user_warnings

from gptexp.config.errors import UserError
from gptexp.config.schema import Config
from gptexp.data.datamodule import DataModule
from gptexp.reporting.record import RunFolder
from gptexp.reporting.tracking import Tracker, open_tracker
from gptexp.training import checkpoint
from gptexp.training.evaluation import evaluate
from gptexp.training.hardware import pick_device, precision
from gptexp.training.module import Module
from gptexp.training.prepare import Prepared, prepare
from gptexp.training.progress import Progress
from gptexp.training.recorder import Recorder
from gptexp.training.weights import build_model, initialise, load_run


def start(folder: RunFolder) -> None:
    """Train the run: here, or in one process a device.

    Raises:
        UserError: the processes cannot be started as asked.
    """
    config = folder.config()
    if config.trainer.devices == 1 or is_launched():
        train(folder)
        return
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={config.trainer.devices}",
        "-m",
        "gptexp.training.launch",
        str(folder.path),
    ]
    code = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": _threads(config)}, check=False).returncode
    if code:
        raise RuntimeError(f"a training process ended with exit code {code}")


def is_launched() -> bool:
    """Whether torchrun or SLURM has started this process as one of several."""
    return "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def train(folder: RunFolder) -> None:
    """The program of one rank: fit, then, on the first rank alone, evaluate and write the result."""
    config = folder.config()
    quieten()
    prepared = prepare(config)
    rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
    model, resumed_from = _model(config, folder, prepared)
    module = Module(model, config)
    tracker = open_tracker(config, _settings(folder), folder.path) if rank == 0 else Tracker()
    failed = True
    try:
        recorder = _restore(module, config, folder, tracker, resumed_from, rank)
        if module.step < config.trainer.max_steps:
            data = DataModule(*_sequences(config, prepared), config.trainer, config.seed, lambda: module.step)
            _trainer(config, recorder, prepared.store.has("val")).fit(module, data)
        if rank == 0:
            _report(folder, prepared, module, tracker)
        failed = False
    except BaseException as error:
        if rank == 0:
            status = "interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed"
            folder.write_result(status=status, steps=module.step, error=f"{type(error).__name__}: {error}")
        raise
    finally:
        tracker.close(failed)


def quieten() -> None:
    """Lightning's advice is for its own users; ours read one line or none."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    disable_possible_user_warnings()  # "does not have many workers" and the like
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*", FutureWarning)  # inside Lightning


def _model(config: Config, folder: RunFolder, prepared: Prepared) -> tuple[Any, Path | None]:
    torch.manual_seed(config.seed)
    model = build_model(config.model, prepared.store.tokenizer.vocab_size)
    resumed_from = checkpoint.find(folder.checkpoints)
    if resumed_from is not None:
        checkpoint.load_weights(resumed_from, model)
    elif config.init:
        initialise(model, config)
    if config.trainer.compile:
        for block in model.blocks:
            block.compile()  # in place: checkpoints keep the plain names
    return model, resumed_from


def _restore(
    module: Module,
    config: Config,
    folder: RunFolder,
    tracker: Tracker,
    resumed_from: Path | None,
    rank: int,
) -> Recorder:
    recorder = Recorder(config, folder, tracker)
    if resumed_from is not None:
        state = checkpoint.read_state(resumed_from)
        module.step, module.tokens, module.seconds = state["step"], state["tokens"], state["seconds"]
        recorder.best, recorder.resumed_from = state["best"], resumed_from
    if rank == 0:
        folder.forget_after(module.step)
        folder.write_result(status="running", steps=module.step)
        if resumed_from is not None:
            print(f"resuming at step {module.step} of {config.trainer.max_steps}", file=sys.stderr)
    return recorder


def _sequences(config: Config, prepared: Prepared) -> tuple[Any, Any]:
    task, store = prepared.task, prepared.store
    return (
        task.sequences(store, "train", config.seed),
        task.sequences(store, "val", None) if store.has("val") else None,
    )


def _trainer(config: Config, recorder: Recorder, validates: bool) -> L.Trainer:
    settings = config.trainer
    return L.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy=_strategy(config),
        precision=precision(config.trainer.precision, pick_device(config.trainer.accelerator)),
        max_epochs=-1,
        max_steps=-1,
        limit_val_batches=None if validates else 0,
        reload_dataloaders_every_n_epochs=1,  # an epoch is the stretch up to the next validation
        callbacks=[
            recorder,
            *([Progress(recorder, settings.max_steps)] if settings.progress and _is_first() else []),
            _Stop(),
        ],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


class _Stop(L.Callback):
    """Ends training at max_steps: our own clock, since Lightning's starts at 0 after a resume."""

    def on_train_batch_end(self, trainer: L.Trainer, module: Module, *_: Any) -> None:
        if module.step >= module.config.trainer.max_steps:
            trainer.should_stop = True


def _strategy(config: Config) -> Any:
    settings = config.trainer
    world = settings.devices * settings.nodes
    if settings.strategy == "fsdp":
        raise UserError("trainer.strategy=fsdp: not yet available; use ddp")
    if world == 1:
        return "auto"
    from lightning.pytorch.strategies import DDPStrategy

    on_gpu = pick_device(settings.accelerator).type == "cuda"
    return DDPStrategy(process_group_backend="nccl" if on_gpu else "gloo", find_unused_parameters=False)


def _is_first() -> bool:
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def _threads(config: Config) -> str:
    return os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // config.trainer.devices))


def _settings(folder: RunFolder) -> dict[str, Any]:
    from omegaconf import OmegaConf

    settings = OmegaConf.to_container(OmegaConf.load(folder.path / "config.yaml"))
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def _report(folder: RunFolder, prepared: Prepared, module: Module, tracker: Tracker) -> None:
    """Evaluate the best checkpoint on the test split (validation where there is no test) and write the result."""
    config = module.config
    model, _ = load_run(folder, "best")
    model.to(pick_device(config.trainer.accelerator))
    splits = ["val"] * prepared.store.has("val") + ["test"] * prepared.store.has("test")
    best = checkpoint.find(folder.checkpoints, "best") or checkpoint.find(folder.checkpoints)
    assert best is not None
    metrics: dict[str, float] = {}
    if splits:
        metrics |= checkpoint.read_state(best)["metrics"]
        evaluation = evaluate(model, prepared.task, prepared.store, splits[-1])
        metrics |= evaluation.metrics
        folder.write_samples(evaluation.samples)
    folder.write_result(
        status="finished",
        error=None,
        steps=module.step,
        tokens=module.tokens,
        train_seconds=round(module.seconds, 3),
        tokens_per_second=round(module.tokens / max(1e-9, module.seconds), 1),
        parameters=sum(p.numel() for p in model.parameters()),
        precision=precision(config.trainer.precision, pick_device(config.trainer.accelerator)),
        evaluated=best.name,
        headline=f"{splits[-1] if splits else 'test'}/{prepared.task.headline}",
        metrics=metrics,
        remarks=prepared.task.remarks(metrics, splits[-1] if splits else "", config.init),
    )
    tracker.finish(metrics, folder.samples())


if __name__ == "__main__":
    train(RunFolder(sys.argv[1]))
    if torch.distributed.is_initialized():  # left to the interpreter's exit, gloo's threads may abort the process
        torch.distributed.destroy_process_group()
