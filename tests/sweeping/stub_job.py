"""A job of a sweep without a training: `python stub_job.py KEY=VALUE ...` writes the run folder that one leaves.

rate=R makes the validation loss 1 + R, falling by 0.5 in the last two thirds of the steps; seconds=S is its duration;
ends=fail, crash or kill ends it early; ends=late ignores SIGTERM.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from gptexp.runs.run_folder import RunFolder
from gptexp.sweeping.sweep_job import SweepJob, stop_with_parent

STEPS = 9
WAITS_ABOVE = 5  # a job with such a rate waits after its third step for a signal that stops it
CONFIG = {
    "task": {},
    "data": {},
    "tokenizer": {},
    "schedule": {},
    "trainer": {"max_steps": STEPS, "global_batch_size": 1, "val_tokens": None},
}


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    stop_with_parent()
    job = SweepJob.from_env()
    assert job is not None
    values = dict(word.split("=", 1) for word in sys.argv[1:])
    rate, seconds = float(values.get("rate", 1)), float(values.get("seconds", 0))
    name = "run-" + "-".join(f"{key}{value}" for key, value in values.items() if key != "seconds")
    run = RunFolder(job.folder.path.parent / name)
    run.path.mkdir(exist_ok=True)
    (run.path / "config.yaml").write_text(json.dumps(CONFIG) + "\n")
    with (run.path / "starts.txt").open("a") as out:
        affinity = sorted(os.sched_getaffinity(0))
        out.write(f"{os.environ.get('OMP_NUM_THREADS')} {affinity}\n")
    job.start(run)
    if values.get("ends") == "late":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if values.get("ends") == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if values.get("ends") in ("fail", "crash"):
        if values["ends"] == "crash":
            run.write_record("crash", step=3)
        job.report("failed", reason="no room\nTraceback", code=1)
        sys.exit(1)
    try:
        train(run, rate + 0.001 * int(values.get("seed", 0)) ** 2, seconds)
    except SystemExit:
        job.report("stopped", reason="stopped by SIGTERM", code=75)
        raise
    metrics = {"val/loss": 0.5 + rate, "test/f1": 1 / (1 + rate)}
    run.write_record(
        "result",
        status="finished",
        metrics=metrics,
        primary_metric="test/f1",
        higher_is_better=True,
    )
    job.finish(run)


def train(run: RunFolder, rate: float, seconds: float) -> None:
    done = len(run.metrics())
    for step in range(done + 1, STEPS + 1):
        time.sleep(seconds / STEPS)
        if rate > WAITS_ABOVE and not done and step == 4:
            time.sleep(60)
        gain = 0.5 * max(0, step - STEPS // 3) / (STEPS - STEPS // 3)
        run.append_metrics({"step": step, "val/loss": 1 + rate - gain})


if __name__ == "__main__":
    main()
    assert Path(sys.argv[0]).name == "stub_job.py"
