"""The callback that profiles a few steps for trainer.profile: a trace, and a table of the most expensive operations."""

import os
import sys
from typing import Any

import lightning as L
import torch
from torch.profiler import ProfilerActivity, profile, schedule

from gptexp.config.schema.trainer import PROFILE_WARM_UP_STEPS
from gptexp.stages import stage
from gptexp.training.module import TrainModule
from gptexp.training.recorder import Recorder

TRACE, TABLE = "trace.json.gz", "profile.txt"
TABLE_ROWS = 50


class Profiler(L.Callback):
    """Profiles `steps` steps after the first ones of this process, which are slow.

    It precedes the recorder, so that a profiled step ends before its validation and checkpoint. All ranks profile, so
    that none is slower than the others, and rank zero writes the files.
    """

    def __init__(self, recorder: Recorder, steps: int) -> None:
        self.recorder, self.steps = recorder, steps
        self.is_writer = recorder.checkpointer.process_group.is_rank_zero
        self.folder = recorder.folder.path
        self.first_step, self.last_step = 0, 0
        self.profile: Any = None
        self.outcome = ""

    def on_train_start(self, trainer: L.Trainer, module: TrainModule) -> None:
        self.first_step = module.step + PROFILE_WARM_UP_STEPS + 1
        last = self.first_step + self.steps - 1
        self.outcome = f"trainer.profile: nothing was written, for the run ended before step {last}"

    def on_train_batch_start(self, trainer: L.Trainer, module: TrainModule, *_: Any) -> None:
        # The profiler's own first step, which sets it up, is the last one of the warm-up.
        if module.step == self.first_step - 2:
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its lines are for its developers
            activities = [ProfilerActivity.CPU]
            if module.device.type == "cuda":
                activities.append(ProfilerActivity.CUDA)
            with self.recorder.meter.exclude():
                self.profile = profile(
                    activities=activities,
                    schedule=schedule(wait=0, warmup=1, active=self.steps, repeat=1),
                    on_trace_ready=self._write,
                )
                self.profile.start()

    def on_train_batch_end(self, trainer: L.Trainer, module: TrainModule, *_: Any) -> None:
        if self.profile is not None:
            self.last_step = module.step
            with self.recorder.meter.exclude():
                self.profile.step()  # the last one writes the files
                if module.step == self.first_step + self.steps - 1:
                    self._stop()

    def on_train_end(self, *_: Any) -> None:
        """Write the steps of a training that a user callback has ended early, and report."""
        self._stop()
        self._report()

    def on_exception(self, *_: Any) -> None:
        """Write nothing: writing takes seconds, and a signal leaves few of them for the checkpoint."""
        self.is_writer = self.is_writer and self.profile is None
        self._stop()
        self._report()

    def _stop(self) -> None:
        if self.profile is not None:
            self.profile.stop()
            self.profile = None

    def _report(self) -> None:
        if self.outcome and self.recorder.checkpointer.process_group.is_rank_zero:
            print(self.outcome, file=sys.stderr)
            self.outcome = ""

    def _write(self, finished: torch.profiler.profile) -> None:
        if not self.is_writer:
            return
        trace, table = self.folder / TRACE, self.folder / TABLE
        device = "cuda" if ProfilerActivity.CUDA in finished.activities else "cpu"
        try:
            with stage("writing the profile"):
                finished.export_chrome_trace(str(trace))
                operations = finished.key_averages()
                text = operations.table(sort_by=f"self_{device}_time_total", row_limit=TABLE_ROWS)
                table.write_text(text, "utf8")
        except OSError as error:  # a full disk: the run goes on
            self.outcome = f"trainer.profile: {self.folder}: nothing was written ({error})"
            return
        self.outcome = (
            f"profile of steps {self.first_step} to {self.last_step}: {table} has the most expensive operations, "
            f"{trace} opens in https://ui.perfetto.dev"
        )
