"""Check that on this machine a run computes the same however it is interrupted or distributed.

python -m gptexp.selftest          a few minutes on two cores

It takes two GPUs, one, or the CPU, and says which. Each line is an invariant with the measured difference and its
limit. The exit code is 1 if one is broken.
"""

import contextlib
import io
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gptexp.command_line import CommandParser
from gptexp.config import compose, run_id
from gptexp.errors import RunError, exits_cleanly
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.timings import drop_timings

STEPS = 50
NAN_STEP = 20
TINY = [
    "task=translate",
    "data.examples=2000",
    "task.test_examples=16",
    "model=nano",
    "model.layers=2",
    "model.d_model=64",
    "model.heads=2",
    "optim=adamw",
    "trainer.global_batch_size=8",
    f"trainer.max_steps={STEPS}",
    "trainer.val_every=25",
    "trainer.log_every=1",
    "trainer.checkpoint_every=5",
    "trainer.precision=32",
    "trainer.deterministic=true",
    "trainer.progress=false",
    "logger=none",
]
DROPOUT = "model.dropout=0.2"


@dataclass
class Measurement:
    difference: float
    limit: float = 0.0
    unit: str = "largest difference of any logged loss"


@exits_cleanly
def main() -> None:
    CommandParser("selftest", __doc__).parse_args()
    print(describe_devices(), flush=True)
    started, broken = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="gptexp-selftest-") as folder, contextlib.chdir(folder):
        for name, measure in INVARIANTS.items():
            line, holds = _check(name, measure)
            print(line, flush=True)
            broken += not holds
    seconds = time.monotonic() - started
    print(f"{len(INVARIANTS) - broken} of {len(INVARIANTS)} hold, {seconds:.0f} s")
    if broken:
        sys.exit(1)


def describe_devices() -> str:
    """Return on which devices the runs of this machine compute."""
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        return "devices: the CPU; torch finds no GPU"
    name = torch.cuda.get_device_name(0)
    if count == 1:
        return f"devices: 1 GPU ({name}); runs of two processes, which need two, compare on the CPU"
    return f"devices: 2 of {count} GPUs ({name})"


def _check(name: str, measure: Callable[[], Measurement]) -> tuple[str, bool]:
    """Return the line about an invariant, and whether it holds."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(output):
            result = measure()
    except Exception as error:
        return f"BROKEN  {name}: {type(error).__name__}: {error}\n{output.getvalue()}", False
    holds = result.difference <= result.limit
    verdict = "holds " if holds else "BROKEN"
    figures = f"{result.unit} {result.difference:.3g} (limit {result.limit:g})"
    return f"{verdict}  {name}: {figures}", holds


def measure_accumulation() -> Measurement:
    one_batch = _run("one_batch")
    differences = [
        _loss_difference(one_batch, _run(f"micro{n}", f"trainer.micro_batch_size={n}"))
        for n in (1, 2, 4)
    ]
    return Measurement(max(differences), 1e-5)


def measure_two_processes(strategy: str) -> Measurement:
    words = _words_of_two_processes()
    two = _run(strategy, "trainer.devices=2", f"trainer.strategy={strategy}", *words)
    return Measurement(_loss_difference(_run_one_process(words), two), 1e-5)


def measure_kill_and_resume(outputs: str, *overrides: str) -> Measurement:
    uninterrupted = _run(f"{outputs}-uninterrupted", DROPOUT, *overrides)
    _run_until([f"outputs={outputs}", DROPOUT, *overrides], STEPS // 2, signal.SIGKILL)
    return _count_differences(uninterrupted, _run(outputs, DROPOUT, *overrides))


def measure_change_of_strategy() -> Measurement:
    """Train half of the run on two sharded processes, and the rest on one."""
    words = _words_of_two_processes()
    two = ["trainer.devices=2", "trainer.strategy=fsdp", "trainer.sharded_checkpoints=true"]
    _run_until(["outputs=moved", *two, *words], STEPS // 2, signal.SIGTERM)
    return Measurement(_loss_difference(_run_one_process(words), _run("moved", *words)), 1e-5)


def measure_damaged_checkpoint() -> Measurement:
    uninterrupted = _run("uninterrupted", DROPOUT)
    folder = _run_until(["outputs=damaged", DROPOUT], STEPS // 2, signal.SIGTERM)
    newest = max(folder.checkpoints.glob("step-*"))
    file = newest / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    resumed = _run("damaged", DROPOUT)
    assert (folder.checkpoints / f"damaged-{newest.name}").is_dir()
    return _count_differences(uninterrupted, resumed)


def measure_not_finite() -> Measurement:
    """Stop at a NaN in the gradient, and compare the saved weights with those of a run that ends before it."""
    from lightning.pytorch.callbacks import LambdaCallback

    from gptexp.run import run

    def set_nan(_trainer, module) -> None:  # type: ignore[no-untyped-def]
        if module.step == NAN_STEP:
            next(module.parameters()).grad.fill_(float("nan"))

    constant = "schedule=constant"
    shorter = _run("shorter", constant, f"trainer.max_steps={NAN_STEP}")
    config = compose.compose_config([*TINY, "outputs=nan", constant])
    try:
        run(config, callbacks=[LambdaCallback(on_after_backward=set_nan)])
    except RunError:
        pass
    else:
        raise AssertionError("the run did not stop")
    name = f"step-{NAN_STEP:06d}"
    stopped = RunFolder(next(Path("nan").glob("translate-*")))
    files = [folder.checkpoints / name / "model.safetensors" for folder in (shorter, stopped)]
    return Measurement(_count_bytes(*files), unit="bytes of weights that differ:")


def measure_generation() -> Measurement:
    """Compare tokens from the cache and in a batch with tokens recomputed for each prompt by itself."""
    import torch

    from gptexp.checkpoints.load_model import load_run
    from gptexp.distributed.devices import pick_device
    from gptexp.generation.generator import Generator
    from gptexp.generation.prompt import Prompt

    model, tokenizer = load_run(_run("one_batch"))
    model.to(device := pick_device())
    texts = ("12 euros", "March 3", "in 5 hours and a half")
    prompts = [Prompt(tuple(tokenizer.encode(text))) for text in texts]
    generator = Generator(model, eos=-1)
    differences = 0
    for prompt, batched in zip(prompts, generator.generate(prompts, 16), strict=True):
        [alone] = generator.generate([prompt], 16)
        tokens = list(prompt.tokens)
        for _ in range(16):
            states = model(torch.tensor([tokens], device=device))
            tokens.append(int(model.head(states)[0, -1].argmax()))
        recomputed = tokens[len(prompt.tokens) :]
        differences += sum(
            not a == b == c for a, b, c in zip(batched, alone, recomputed, strict=True)
        )
    return Measurement(differences, unit="tokens that differ:")


INVARIANTS: dict[str, Callable[[], Measurement]] = {
    "micro-batches of 1, 2 and 4 = the whole batch at once": measure_accumulation,
    "two processes, DDP = one": lambda: measure_two_processes("ddp"),
    "two processes, FSDP2 = one": lambda: measure_two_processes("fsdp"),
    "killed with -9 and resumed = never interrupted (dropout)": lambda: measure_kill_and_resume(
        "killed"
    ),
    "the same with two data workers": lambda: measure_kill_and_resume(
        "workers", "trainer.num_workers=2"
    ),
    "half on two sharded processes, half on one = all on one": measure_change_of_strategy,
    "a flipped bit in the newest checkpoint: the one before is used": measure_damaged_checkpoint,
    "a gradient that is not finite leaves the weights as they were": measure_not_finite,
    "generation with a cache and in batches = token by token, one by one": measure_generation,
}


def _run(outputs: str, *overrides: str) -> RunFolder:
    """Train, or return the finished run, through the same code as the command."""
    from gptexp.run import run

    return run(compose.compose_config([*TINY, f"outputs={outputs}", *overrides]))


def _words_of_two_processes() -> list[str]:
    """Return the words that move a comparison with two processes to the CPU, where there is a single GPU."""
    import torch

    return ["trainer.accelerator=cpu"] if torch.cuda.device_count() == 1 else []


def _run_one_process(words: list[str]) -> RunFolder:
    return _run("one_batch_on_cpu" if words else "one_batch", *words)


def _run_until(overrides: list[str], step: int, number: signal.Signals) -> RunFolder:
    """Run the command in a process of its own, and send it a signal when it has logged the step."""
    words = [*TINY, *overrides]
    config = compose.compose_config(words)
    folder = RunFolder(Path(config.outputs) / run_id.folder_name(config))
    command = [sys.executable, "-m", "gptexp.run", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def has_logged_step() -> bool:
        return any(row["step"] >= step for row in folder.metrics())

    while process.poll() is None and not has_logged_step():
        time.sleep(0.01)
    process.send_signal(number)
    process.wait()
    assert has_logged_step(), "the run ended before the step"
    assert folder.result().get("status") != "finished", "the run finished before the signal"
    return folder


def _loss_difference(one: RunFolder, two: RunFolder) -> float:
    return max(
        abs(a[key] - b[key]) for a, b in _paired_rows(one, two) for key in a if "/loss" in key
    )


def _count_differences(one: RunFolder, two: RunFolder) -> Measurement:
    """Count what differs in the last checkpoints and, times aside, in the logged lines."""
    lines = sum(drop_timings(a) != drop_timings(b) for a, b in _paired_rows(one, two))
    checkpoints = [folder.checkpoints / f"step-{STEPS:06d}" for folder in (one, two)]
    content = sum(
        _count_bytes(*(checkpoint / name for checkpoint in checkpoints))
        for name in ("model.safetensors", "optimizer.safetensors", "optimizer.json")
    )
    unit = "bytes of weights and optimizer, lines of metrics that differ:"
    return Measurement(lines + content, unit=unit)


def _paired_rows(one: RunFolder, two: RunFolder) -> Iterator[tuple[dict, dict]]:
    yield from zip(one.metrics(), two.metrics(), strict=True)


def _count_bytes(one: Path, two: Path) -> int:
    return sum(a != b for a, b in zip(one.read_bytes(), two.read_bytes(), strict=True))


if __name__ == "__main__":
    main()
