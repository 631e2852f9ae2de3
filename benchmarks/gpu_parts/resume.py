"""Exact resume after SIGKILL with trainer.deterministic=true, and the time that this setting costs.

    python benchmarks/gpu.py --only resume

Three runs of one command: one that nothing interrupts, one that is killed and continued, and one without the setting.
"""

import hashlib
import json
import statistics
import sys
import tempfile
from pathlib import Path

from measuring import SEED, Part, find_only_run
from speed import write_text

from gptexp.runs import timings
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.timings import drop_timings

STEPS = 120
RECIPE = [
    "model=small",
    "tokenizer=byte",
    f"trainer.max_steps={STEPS}",
    "trainer.global_batch_size=32",
    "trainer.checkpoint_every=20",
    "trainer.val_every=40",
]
TOY = [
    "model=nano",
    "model.layers=2",
    "model.d_model=32",
    "model.heads=2",
    "model.context=32",
    "tokenizer=byte",
    "trainer.max_steps=80",
    "trainer.global_batch_size=4",
    "trainer.checkpoint_every=10",
    "trainer.val_every=20",
]
TENSORS = ("model.safetensors", "optimizer.safetensors")


def main() -> None:
    part = Part(__doc__)
    with tempfile.TemporaryDirectory(prefix="gptexp-resume-") as name:
        folder = Path(name)
        write_text(folder / "text.txt", 40_000 if part.options.toy else 1_000_000)
        words = [
            "task=pretrain",
            "data=files",
            f"data.path={folder / 'text.txt'}",
            "data.split=tail",
        ]
        words += ["model.dropout=0.1", f"seed={SEED}", "trainer.log_every=1"]
        words += TOY if part.options.toy else RECIPE
        exact = [*words, "trainer.deterministic=true"]
        uninterrupted = part.finish_run(*exact, outputs=folder / "uninterrupted")
        steps = uninterrupted.result()["steps"]
        half = steps // 2
        part.watch_run(
            *exact,
            outputs=folder / "killed",
            is_reached=lambda rows: any(row["step"] > half for row in rows),
        )
        steps_saved = find_only_run(folder / "killed").steps_done()
        if not 0 < steps_saved < steps:
            sys.exit(f"nothing to resume: the killed run had saved step {steps_saved} of {steps}")
        resumed = part.finish_run(*exact, outputs=folder / "killed")
        part.report("killed after step", half)
        part.report("continued from step", steps_saved)
        for name, is_same in compare_runs(uninterrupted, resumed).items():
            part.report(f"same {name} to the bit", "yes" if is_same else "NO")
        free = part.finish_run(*words, outputs=folder / "free")
        exact_ms, free_ms = step_ms(uninterrupted), step_ms(free)
    part.report("step with deterministic kernels", exact_ms, "ms")
    part.report("step by default", free_ms, "ms")
    part.report("time of deterministic kernels", exact_ms / free_ms, "times the default")


def compare_runs(one: RunFolder, other: RunFolder) -> dict[str, bool]:
    """Compare weights, state of the optimizer, and every number in metrics.jsonl but the times."""
    mine, theirs = one.checkpoint(), other.checkpoint()
    assert mine is not None
    assert theirs is not None
    same = {name: digest(mine / name) == digest(theirs / name) for name in TENSORS}
    return {**same, "metrics.jsonl": logged(one) == logged(other)}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def logged(run: RunFolder) -> str:
    return json.dumps([drop_timings(row) for row in run.metrics()])


def step_ms(run: RunFolder) -> float:
    rows = [row[timings.STEP_MS] for row in run.metrics() if timings.STEP_MS in row]
    return statistics.median(rows[len(rows) // 4 :])


if __name__ == "__main__":
    main()
