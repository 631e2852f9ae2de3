"""Prove on this machine and its devices that a resumed, split up or rescaled run is the same run.

python -m gptexp.selftest          a few minutes on two cores

Each line is an invariant with the measured difference and its limit; exit code 1 where one is broken.
"""

import contextlib
import io
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gptexp.cli import parser_of
from gptexp.config import compose, run_id
from gptexp.errors import RunError, exits_cleanly
from gptexp.runs.run_folder import RunFolder

STEPS = 50
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
    "trainer.progress=false",
    "logger=none",
]
DROPOUT = "model.dropout=0.2"


@dataclass
class Measured:
    difference: float
    limit: float = 0.0
    unit: str = "largest difference of any logged loss"


@exits_cleanly
def main() -> None:
    parser = parser_of("selftest", __doc__)
    parser.parse_args()
    started, broken = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="gptexp-selftest-") as folder, contextlib.chdir(folder):
        for what, measure in INVARIANTS.items():
            try:
                with (
                    contextlib.redirect_stdout(io.StringIO()),
                    contextlib.redirect_stderr(io.StringIO()) as said,
                ):
                    found = measure()
            except Exception as error:
                broken += 1
                print(
                    f"BROKEN  {what}: {type(error).__name__}: {error}\n{said.getvalue()}",
                    flush=True,
                )
                continue
            holds = found.difference <= found.limit
            broken += not holds
            verdict = "holds " if holds else "BROKEN"
            print(
                f"{verdict}  {what}: {found.unit} {found.difference:.3g} (limit {found.limit:g})",
                flush=True,
            )
    print(
        f"{len(INVARIANTS) - broken} of {len(INVARIANTS)} hold, {time.monotonic() - started:.0f} s"
    )
    if broken:
        sys.exit(1)


def accumulation() -> Measured:
    whole = _run("whole")
    return Measured(
        max(
            _difference(whole, _run(f"micro{n}", f"trainer.micro_batch_size={n}"))
            for n in (1, 2, 4)
        ),
        1e-5,
    )


def two(strategy: str) -> Measured:
    return Measured(
        _difference(
            _run("whole"), _run(strategy, "trainer.devices=2", f"trainer.strategy={strategy}")
        ),
        1e-5,
    )


def resume_across_processes() -> Measured:
    """Half of the run on two sharded processes, the rest on one."""
    _run(
        "moved",
        "trainer.devices=2",
        "trainer.strategy=fsdp",
        "trainer.sharded_checkpoints=true",
        stop_at=STEPS // 2,
    )
    return Measured(_difference(_run("whole"), _run("moved")), 1e-5)


def damaged_checkpoint() -> Measured:
    whole, folder = _run("uninterrupted", DROPOUT), _run("damaged", DROPOUT, stop_at=STEPS // 2)
    newest = max(folder.checkpoints.glob("step-*"))
    file = newest / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    resumed = _run("damaged", DROPOUT)
    assert (folder.checkpoints / f"damaged-{newest.name}").is_dir()
    return Measured(
        _unlike(whole, resumed),
        unit="bytes of weights and optimizer, lines of metrics that differ:",
    )


def not_finite() -> Measured:
    """A NaN in step 20: the weights of the checkpoint that is left are those of 20 steps without it."""
    from gptexp.model import Transformer

    constant = "schedule=constant"
    _run("twenty", constant, "trainer.max_steps=20")
    plain, steps = Transformer.loss, 0

    def broken(model, **inputs):  # type: ignore[no-untyped-def]
        nonlocal steps
        steps += model.training
        sums = plain(model, **inputs)
        return sums._replace(targets=sums.targets * (float("nan") if steps == 21 else 1.0))

    Transformer.loss = broken  # type: ignore[method-assign,assignment]
    try:
        _run("nan", constant)
    except RunError:
        pass
    else:
        raise AssertionError("the run went on")
    finally:
        Transformer.loss = plain  # type: ignore[method-assign]
    files = [
        next(Path(name).glob("*/checkpoints/step-000020/model.safetensors"))
        for name in ("twenty", "nan")
    ]
    return Measured(_bytes_unlike(*files), unit="bytes of weights that differ:")


def generation() -> Measured:
    """Cached against recomputed, and batched against one by one, on tokens."""
    import torch

    from gptexp.checkpoints.load_model import load_run
    from gptexp.generation.generator import Generator
    from gptexp.generation.prompt import Prompt

    model, tokenizer = load_run(_run("whole"))
    prompts = [tokenizer.encode(text) for text in ("12 euros", "March 3", "in 5 hours and a half")]
    generator = Generator(model, eos=-1)
    together = generator.generate([Prompt(tuple(prompt)) for prompt in prompts], 16)
    wrong = 0
    for prompt, said in zip(prompts, together, strict=True):
        [alone] = generator.generate([Prompt(tuple(prompt))], 16)
        slow = list(prompt)
        for _ in range(16):
            slow.append(int(model.head(model(torch.tensor([slow])))[0, -1].argmax()))
        wrong += sum(
            a != b or a != c for a, b, c in zip(said, alone, slow[len(prompt) :], strict=True)
        )
    return Measured(wrong, unit="tokens that differ:")


INVARIANTS: dict[str, Callable[[], Measured]] = {
    "micro-batches of 1, 2 and 4 = the whole batch at once": accumulation,
    "two processes, DDP = one": lambda: two("ddp"),
    "two processes, FSDP2 = one": lambda: two("fsdp"),
    "killed with -9 and resumed = never interrupted (dropout)": lambda: _after_kill("killed"),
    "the same with two data workers": lambda: _after_kill("workers", "trainer.num_workers=2"),
    "half on two sharded processes, half on one = all on one": resume_across_processes,
    "a flipped bit in the newest checkpoint: the one before is used": damaged_checkpoint,
    "a loss that is not finite leaves the weights as they were": not_finite,
    "generation with a cache and in batches = token by token, one by one": generation,
}


def _run(outputs: str, *more: str, stop_at: int | None = None) -> RunFolder:
    """The run, through the same code as the command; `stop_at` ends it after about that step, as a scheduler would."""
    from gptexp.run import run

    words = [*TINY, f"outputs={outputs}", *more]
    if stop_at is None:
        return run(compose.compose_config(words))
    return _ended(words, stop_at, signal.SIGTERM)


def _after_kill(outputs: str, *more: str) -> Measured:
    whole = _run(f"{outputs}-never", DROPOUT, *more)
    _ended([*TINY, f"outputs={outputs}", DROPOUT, *more], STEPS // 2, signal.SIGKILL)
    resumed = _run(outputs, DROPOUT, *more)
    return Measured(
        _unlike(whole, resumed),
        unit="bytes of weights and optimizer, lines of metrics that differ:",
    )


def _ended(words: list[str], step: int, number: signal.Signals) -> RunFolder:
    """The command in a process of its own, which gets the signal when it has logged the step."""
    config = compose.compose_config(words)
    folder = RunFolder(Path(config.outputs) / run_id.folder_name(config))
    command = [sys.executable, "-m", "gptexp.run", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not any(row["step"] >= step for row in folder.metrics()):
        time.sleep(0.01)
    process.send_signal(number)
    process.wait()
    assert any(row["step"] >= step for row in folder.metrics()), (
        "it ended before it came to the step"
    )
    assert folder.result().get("status") != "finished", "it had finished before the signal came"
    return folder


def _difference(one: RunFolder, two: RunFolder) -> float:
    rows = zip(one.metrics(), two.metrics(), strict=True)
    return max(abs(a[key] - b[key]) for a, b in rows for key in a if key.endswith("/loss"))


def _unlike(one: RunFolder, two: RunFolder) -> int:
    """Bytes of the last weights and optimizer state, and lines of metrics (seconds aside), that are not the same."""
    lines = zip(one.metrics(), two.metrics(), strict=True)
    last = [folder.checkpoints / f"step-{STEPS:06d}" for folder in (one, two)]
    weights = sum(
        _bytes_unlike(*(path / f"{kind}.safetensors" for path in last))
        for kind in ("model", "optimizer")
    )
    return sum({**a, "seconds": 0} != {**b, "seconds": 0} for a, b in lines) + weights


def _bytes_unlike(one: Path, two: Path) -> int:
    return sum(a != b for a, b in zip(one.read_bytes(), two.read_bytes(), strict=True))


if __name__ == "__main__":
    main()
