"""One run, from a run folder to a trained and evaluated model; every rank executes it."""

import gc
import logging
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass

import lightning as L
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.fabric.utilities.warnings import disable_possible_user_warnings

from gptexp.checkpoints.checkpoint import Checkpoint
from gptexp.checkpoints.checkpointer import Checkpointer
from gptexp.checkpoints.fingerprint import check_fingerprint, compute_fingerprint
from gptexp.checkpoints.load_model import add_lora, build_model, pretrained_weights
from gptexp.config.schema import Config, WandbConfig
from gptexp.config.targets import build_callbacks
from gptexp.data.loader import DataModule
from gptexp.distributed import launcher
from gptexp.distributed.devices import lightning_devices, lightning_precision, pick_device
from gptexp.distributed.environment import is_launched
from gptexp.distributed.float8 import convert_to_float8
from gptexp.distributed.hardware import describe_device
from gptexp.distributed.process_group import (
    TIMEOUT,
    ProcessGroup,
    find_process_group,
    write_collectives_to,
)
from gptexp.distributed.sharding import fill_parameters
from gptexp.distributed.signals import StopSignals, requeue_slurm_job
from gptexp.distributed.strategies import LaunchedProcesses, lightning_strategy
from gptexp.errors import OutOfMemoryError, Preempted, UserError, describe_error
from gptexp.machine import keep_freed_memory
from gptexp.model import Transformer
from gptexp.model.activation_checkpointing import checkpoint_activations
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.tracker_history import open_complete_tracker
from gptexp.runs.trackers import Tracker
from gptexp.stages import stage
from gptexp.stored_tensors import StoredTensor
from gptexp.tasks.prepare import TaskData, prepare
from gptexp.training.choose_kernels import choose_kernels
from gptexp.training.continuation import complete_state, restore_order
from gptexp.training.crash import NotFiniteError, record_crash
from gptexp.training.evaluation import Evaluation, held_out_batch_size
from gptexp.training.example_scores import score_rows
from gptexp.training.garbage import free_memory, freeze_garbage
from gptexp.training.gradient_histograms import GradientHistograms
from gptexp.training.insight import look_into
from gptexp.training.module import TrainModule
from gptexp.training.out_of_memory import explain_out_of_memory
from gptexp.training.profiler import Profiler
from gptexp.training.progress_bar import ProgressBar
from gptexp.training.recorder import Recorder, StepStart
from gptexp.training.reference import prepare_reference
from gptexp.training.report import describe_scores, evaluate_held_out, record_before, write_report
from gptexp.training.sharded_models import build_deferred, load_best


def start(
    folder: RunFolder,
    config: Config,
    data: TaskData,
    callbacks: Sequence[L.Callback],
    signals: StopSignals,
) -> None:
    """Train the run in this process, or start one process a device.

    Raises:
        UserError: the settings need other processes. RunError: the run failed.
        Preempted: a signal stopped the run, and it is saved.
    """
    if config.trainer.nodes > 1 and not is_launched():
        raise UserError(
            f"trainer.nodes={config.trainer.nodes}: start this command on every machine, with torchrun or srun "
            f"(docs/clusters.md has the commands)"
        )
    signals.raise_if_received()
    if is_launched():
        fit(folder, config, data, callbacks, signals)
    elif config.trainer.devices == 1:
        fit_alone(folder, config, data, callbacks, signals)
    else:
        with stage("training", is_quiet=True):  # rank zero reports its stages
            launcher.launch(folder.path, config.trainer.devices)


def fit_alone(
    folder: RunFolder,
    config: Config,
    data: TaskData,
    callbacks: Sequence[L.Callback],
    signals: StopSignals,
) -> None:
    """Execute a run in this process; start again from the last checkpoint where it cannot retry a step in place."""
    while True:
        try:
            fit(folder, config, data, callbacks, signals)
            return
        except OutOfMemoryError:
            print(launcher.RESTART, file=sys.stderr)
        gc.collect()  # the model of the failed attempt is in reference cycles


def fit(
    folder: RunFolder,
    config: Config,
    data: TaskData | None = None,
    callbacks: Sequence[L.Callback] = (),
    signals: StopSignals | None = None,
) -> None:
    """Execute a run as the rank that the environment names; `signals` may have received one before."""
    silence_lightning()
    process_group, signals = find_process_group(config), signals or StopSignals()
    with signals.handle(), process_group.destroy_on_exit():
        device = pick_device(config.trainer.accelerator)
        process_group.init(device, config.trainer.cpu_offload)
        if device.type == "cuda":
            write_collectives_to(folder.path)
        else:
            keep_freed_memory()
        data = data or prepare(config, folder.tokenizer)
        Run(folder, config, data, process_group, signals, callbacks).execute()
    process_group.barrier()  # rank zero has written the result, which the others may read


@dataclass
class TrainingTotals:
    """The work of a run, over all processes that have continued it."""

    steps: int
    tokens: int
    seconds: float


class Run:
    """The algorithm of a run: build the model, restore it, fit, and evaluate the best checkpoint."""

    def __init__(
        self,
        folder: RunFolder,
        config: Config,
        data: TaskData,
        process_group: ProcessGroup,
        signals: StopSignals,
        callbacks: Sequence[L.Callback],
    ) -> None:
        self.folder, self.config, self.task, self.store = folder, config, data.task, data.store
        self.process_group, self.signals = process_group, signals
        self.callbacks = [*build_callbacks(config.callbacks), *callbacks]
        self.device = pick_device(config.trainer.accelerator)
        self.fingerprint = compute_fingerprint(config, data.store)
        self.checkpointer = Checkpointer(
            folder.checkpoints,
            process_group,
            config.trainer.keep_checkpoints,
            config.trainer.sharded_checkpoints,
        )

    def execute(self) -> None:
        checkpoint = self.process_group.broadcast_from_rank_zero(self.checkpointer.latest_valid)
        if self.process_group.is_rank_zero:
            step = checkpoint.state["step"] if checkpoint else 0
            self.folder.truncate_metrics(step, self.config.trainer.log_every)
            self.folder.update_environment(
                device=describe_device(self.device), processes=self.process_group.size
            )
        with self.record_outcome() as tracker, explain_out_of_memory():
            prepare_reference(self.config, self.task, self.store, self.device, self.process_group)
            totals = self.train(checkpoint, tracker)
            free_memory(self.device)  # of its model and optimizers
            self.report(totals, tracker)

    def train(self, checkpoint: Checkpoint | None, tracker: Tracker) -> TrainingTotals:
        """Train to the last step, and count the work."""
        with stage("building the model"):
            config, module = self.config, self.build_module()
        data = DataModule(
            self.task.layout, self.store, config.trainer, config.seed, config.data.order_block
        )
        held_out = data.validation_batches(held_out_batch_size(config.model.context))
        data.held_out = held_out
        recorder = Recorder(
            config, self.folder, self.checkpointer, self.fingerprint, tracker, data, held_out
        )
        self.restore(module, recorder, data, checkpoint)
        if config.task.score_before and config.init and not checkpoint:
            self.score_before_training(module.model)
        if module.step < config.trainer.max_steps:
            self.fit(module, recorder, data)
        return TrainingTotals(module.step, module.tokens, round(module.seconds, 3))

    def build_module(self) -> TrainModule:
        """Build the model with random weights, or on the meta device if it will be sharded."""
        num_tokens = self.store.tokenizer.vocab_size
        deferred = None
        if built := build_deferred(self.config, num_tokens):
            model, deferred = built
        else:
            torch.manual_seed(self.config.seed)
            model = build_model(self.config, num_tokens)
            if self.config.trainer.is_sharded and self.process_group.is_rank_zero:
                print(
                    f"{type(model).__name__}: each process builds the whole model before it is sharded, "
                    f"since the constructor does more than fill parameters",
                    file=sys.stderr,
                )
        checkpoint_activations(model, self.config.trainer.activation_checkpointing)
        fitting = self.folder.read_record("micro_batch").get("micro_batch_size")
        sizes = [size for size in (fitting, self.config.trainer.micro_batch_size) if size]
        return TrainModule(
            model, self.config, self.process_group, self.signals, min(sizes, default=None), deferred
        )

    def restore(
        self,
        module: TrainModule,
        recorder: Recorder,
        data: DataModule,
        checkpoint: Checkpoint | None,
    ) -> None:
        """Continue from the run's own checkpoint; else start from the weights of `init`; else from random ones."""
        config, model = self.config, module.model
        construction = module.deferred.construction if module.deferred else nullcontext
        has_new_tokens = self.task.layout.has_new_tokens(self.store.tokenizer)
        weights: dict[str, StoredTensor] = {}
        if checkpoint:
            check_fingerprint(checkpoint, self.fingerprint, config.allow_mismatch)
            with construction():
                add_lora(model, config.optim, has_new_tokens)
            weights = checkpoint.weights_of(model)
            state = complete_state(checkpoint.state, self.folder, config)
            is_same_data = checkpoint.fingerprint["data"] == self.fingerprint["data"]
            module.load_progress(state)
            restore_order(data, state, is_same_data)
            recorder.resume_from(checkpoint, is_same_data)
        elif config.init:
            with self.process_group.fail_together():  # rank zero alone verifies files
                verifies = self.process_group.is_rank_zero
                weights = pretrained_weights(model, config, construction, verifies)
            with construction():
                add_lora(model, config.optim, has_new_tokens)
        if module.deferred:
            module.deferred.stored = weights
        else:
            fill_parameters(model, weights)
        if self.process_group.is_rank_zero:
            self.folder.update_result(status="running", error=None)
            if checkpoint:
                steps = f"step {module.step} of {config.trainer.max_steps}"
                changes = [] if is_same_data else ["other data, which start with a new epoch"]
                changes += [text] if (text := module.plan.describe(module.step)) else []
                print("; ".join([f"resuming at {steps}", *changes]), file=sys.stderr)

    def fit(self, module: TrainModule, recorder: Recorder, data: DataModule) -> None:
        if self.config.trainer.precision == "float8":
            convert_to_float8(module.model)
        choose_kernels(module, self.task.layout, self.device, self.callbacks)
        try:
            with self.signals.delay_stop(), freeze_garbage(self.device):
                self.lightning_trainer(recorder).fit(module, data)
            for callback in self.callbacks:  # Lightning has given them methods of the module
                for name in ("log", "log_dict"):
                    vars(callback).pop(name, None)
            self.process_group.set_timeout(TIMEOUT)  # ranks take unequally long to answer
        except NotFiniteError as error:
            raise record_crash(self.folder, module, self.process_group, error) from None

    def report(self, totals: TrainingTotals, tracker: Tracker) -> None:
        """Evaluate the best checkpoint on the test split (validation if there is no test) and write the result."""
        model = load_best(
            self.folder,
            self.config,
            self.store.tokenizer.vocab_size,
            self.process_group,
            self.device,
        )
        path = self.folder.best_checkpoint()
        assert path is not None
        evaluations = self.evaluate_held_out(model)
        if not self.process_group.is_rank_zero:
            return
        before = self.folder.read_record("before")
        report = write_report(
            evaluations, self.task, before, self.config.init or self.config.resume
        )
        metrics = report.metrics
        if evaluations and report.split != "val":
            metrics = Checkpoint(path).state["metrics"] | metrics
        if evaluations and (
            insight := look_into(model, self.task.layout, self.store, report.split)
        ):
            self.folder.write_record("insight", **insight)
        self.folder.write_samples(report.samples)
        self.folder.write_scores(score_rows(evaluations, self.task))
        self.folder.update_result(
            status="finished",
            error=None,
            steps=totals.steps,
            tokens=totals.tokens,
            train_seconds=totals.seconds,
            tokens_per_second=round(totals.tokens / max(1e-9, totals.seconds), 1),
            parameters=sum(p.numel() for p in model.parameters()),
            precision=lightning_precision(self.config.trainer.precision, self.device),
            evaluated=path.name,
            primary_metric=f"{report.split}/{self.task.primary_metric}",
            higher_is_better=self.task.higher_is_better,
            metrics=metrics,
            remarks=report.remarks,
        )
        tracker.finish(metrics, self.folder.samples())

    def score_before_training(self, model: Transformer) -> None:
        """Score the weights of `init` on the held-out splits, and write the record `before`.

        Sharded weights are not scored, and a line on stderr says so.
        """
        if self.config.trainer.is_sharded:
            if self.process_group.is_rank_zero:
                print(
                    "task.score_before=true: with trainer.strategy=fsdp, the weights are scored after training alone",
                    file=sys.stderr,
                )
            return
        evaluations = self.evaluate_held_out(model.to(self.device), with_loss=False)
        model.train()
        if self.process_group.is_rank_zero:
            self.folder.write_record("before", **record_before(evaluations, self.task))
            scores = describe_scores(evaluations, self.task)
            print(f"before training: {scores}", file=sys.stderr)

    def evaluate_held_out(
        self, model: Transformer, with_loss: bool = True
    ) -> dict[str, Evaluation]:
        return evaluate_held_out(
            model,
            self.task,
            self.store,
            self.config.trainer.precision,
            self.process_group.as_data_parallel(),  # as load_best divides the model
            with_loss,
        )

    @contextmanager
    def record_outcome(self) -> Iterator[Tracker]:
        """Open the tracker; write a failure or a stop into the run folder; close the tracker in any case."""
        is_rank_zero = self.process_group.is_rank_zero
        tracker = open_complete_tracker(self.config, self.folder) if is_rank_zero else Tracker()
        failed = True
        try:
            yield tracker
            failed = False
        except BaseException as error:
            if isinstance(error, OutOfMemoryError):
                self.folder.write_record("micro_batch", micro_batch_size=error.micro_batch_size)
            if is_rank_zero:
                stopped = isinstance(error, Preempted | KeyboardInterrupt)
                status = "stopped" if stopped else "failed"
                with suppress(OSError):  # on a full disk, the first error is the one to report
                    self.folder.update_result(status=status, error=describe_error(error))
                failed = not isinstance(error, Preempted)
                if not failed and self.signals.received == signal.SIGUSR1:
                    requeue_slurm_job()
            raise
        finally:
            tracker.close(failed)

    def lightning_trainer(self, recorder: Recorder) -> L.Trainer:
        config = self.config.trainer
        callbacks = [StepStart(recorder), *self.callbacks, recorder]
        if config.profile:
            callbacks.insert(0, Profiler(recorder, config.profile))
        if config.progress and self.process_group.is_rank_zero:
            callbacks.append(ProgressBar(recorder, config.max_steps))
        logger = self.config.logger
        if isinstance(logger, WandbConfig) and logger.histograms_every:
            callbacks.append(GradientHistograms(recorder.tracker, logger.histograms_every))
        return L.Trainer(
            accelerator=self.device.type,
            devices=lightning_devices(self.device),
            strategy=lightning_strategy(config, self.process_group),
            precision=lightning_precision(config.precision, self.device),
            deterministic=config.deterministic,
            max_epochs=1,
            callbacks=callbacks,
            plugins=[
                LaunchedProcesses(self.process_group)
                if self.process_group.size > 1
                else LightningEnvironment()
            ],
            inference_mode=False,  # sharded parameters cannot be gathered in it (litgpt issue 1421)
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )


def silence_lightning() -> None:
    """Turn off Lightning's hints, which name its own settings and not those of gptexp."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    disable_possible_user_warnings()  # "does not have many workers" and similar ones
    # Lightning's own use of torch
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*", FutureWarning)
