"""Every test works in a folder of its own, offline, with data that it makes itself."""

import json
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from browser import browser, open_page  # noqa: F401  fixtures
from finished_runs import make_run  # noqa: F401

from gptexp.machine import list_gpus

# Before torch looks: a machine with GPUs runs the same tests. Only tests/gpu/ uses them.
os.environ["GPTEXP_TEST_GPUS"] = os.environ.get("GPTEXP_TEST_GPUS", ",".join(list_gpus()))
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch

from gptexp.config import compose
from gptexp.config.schema import Config
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.timings import drop_timings

GPUS = [name for name in os.environ["GPTEXP_TEST_GPUS"].split(",") if name]
TINY = [
    "model=nano",
    "model.layers=2",
    "model.d_model=32",
    "model.heads=2",
    "model.context=32",
    "logger=none",
]
TRAIN = [
    "trainer.max_steps=12",
    "trainer.global_batch_size=8",
    "trainer.val_every=4",
    "trainer.log_every=2",
    "trainer.checkpoint_every=4",
    "trainer.progress=false",
    "trainer.precision=32",
    "trainer.accelerator=cpu",
]
WORDS = "the a tree river stone bird falls runs under over slow green light again house road of and to".split()  # noqa: SIM905

# As sitecustomize.py on PYTHONPATH, every Python process reads it: `patch` changes a module right after its import.
ON_IMPORT = """
import importlib.machinery, sys
class Finder:
    @staticmethod
    def find_spec(name, path, target=None):
        if name != MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (load(module), patch(module))
        return spec
sys.meta_path.insert(0, Finder)
"""
# A loss that is not finite in one step of training: what it changes in gptexp.training.module, and as sitecustomize.py.
BREAK_LOSS = """
def patch(module):
    plain, seed_step, now = module.Transformer.loss, module.seed_step, [None]
    def remember(seed, step, rank):
        now[0] = step
        seed_step(seed, step, rank)
    def loss(self, **inputs):
        factor = float("nan") if self.training and now[0] == 6 else 1.0
        return (sums := plain(self, **inputs))._replace(targets=sums.targets * factor)
    module.seed_step, module.Transformer.loss = remember, loss
"""
BROKEN = f"""
MODULE = "gptexp.training.module"
{ON_IMPORT}{BREAK_LOSS}"""
# A CPU that says of itself whether it has bf16 units.
CPU = f"""
MODULE = "torch.cpu"
{ON_IMPORT}
def patch(module):
    module.get_capabilities = lambda: {{"avx512_bf16": HAS_BF16}}
"""


@pytest.fixture(params=[False, True], ids=["without bf16 units", "with bf16 units"])
def bf16_units(
    request: pytest.FixtureRequest, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """The test runs twice, here and in the processes that it starts, as on a CPU without and with bf16 units."""
    (own_folder / "cpu").mkdir()
    (own_folder / "cpu" / "sitecustomize.py").write_text(f"HAS_BF16 = {request.param}\n{CPU}")
    monkeypatch.setenv("PYTHONPATH", str(own_folder / "cpu"), prepend=os.pathsep)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": request.param})
    return request.param


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPTEXP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def quiet_transformers() -> Iterator[None]:
    """Small models of transformers on one thread, without its log lines and progress bars."""
    import transformers

    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    logging.disable(logging.NOTSET)


@pytest.fixture
def tiny() -> Callable[..., Config]:
    """A config of seconds: `tiny("task=translate", ...)`."""
    return lambda *overrides: compose.compose_config([*TINY, *overrides])


def sentence(rng: random.Random, words: int = 12) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words)) + "."


def text_of(rng: random.Random, size: int) -> str:
    """A text of made-up words, which no other text shares."""
    return " ".join("".join(rng.choices("abcdefghij", k=4)) for _ in range(size))


@pytest.fixture
def text_file(own_folder: Path) -> Path:
    """60 kB of sentences that no two runs of the tests see differently."""
    rng = random.Random(0)
    path = own_folder / "text.txt"
    path.write_text("\n".join(sentence(rng) for _ in range(1000)))
    return path


@pytest.fixture
def pairs_file(own_folder: Path) -> Path:
    """300 pairs: a sentence and its last word in capitals."""
    rng = random.Random(1)
    rows = [
        {"source": (text := sentence(rng, 6)), "target": text.split()[-1].upper()}
        for _ in range(300)
    ]
    path = own_folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def pairs_words(pairs_file: Path) -> list[str]:
    """A translation of seconds, as words of a command."""
    return [
        *TINY,
        "task=translate",
        "data=files",
        f"data.path={pairs_file}",
        "task.max_target_tokens=10",
        "task.test_examples=10",
        *TRAIN,
    ]


@pytest.fixture
def chats_words(chats_file: Path) -> list[str]:
    """Chats of seconds, as words of a command."""
    return [
        *TINY,
        "task=chat",
        "data=files",
        f"data.path={chats_file}",
        "model.context=64",
        "task.max_new_tokens=8",
        "task.test_examples=10",
        *TRAIN,
    ]


@pytest.fixture
def chats(chats_words: list[str]) -> Callable[..., Config]:
    return lambda *more: compose.compose_config([*chats_words, *more])


@pytest.fixture
def translation(pairs_words: list[str]) -> Callable[..., Config]:
    return lambda *more: compose.compose_config([*pairs_words, *more])


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a verb as a command; return its output, or its exit code and message."""

    def call(module: ModuleType, *words: Any) -> Any:
        monkeypatch.setattr("sys.argv", [module.__name__, *map(str, words)])
        capsys.readouterr()
        try:
            module.main()
        except SystemExit as error:
            return error.code, capsys.readouterr().err
        return capsys.readouterr().out.rstrip("\n")

    return call


def command(*words: str, **environment: str) -> subprocess.Popen[str]:
    """`python -m gptexp.run WORDS` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "gptexp.run", *words],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(process: subprocess.Popen[str], is_reached: Callable[[], Any]) -> None:
    """Wait for what a process does; it must not end before."""
    while not is_reached():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def end_when(
    process: subprocess.Popen[str], is_reached: Callable[[], Any], number: int = signal.SIGKILL
) -> int:
    """Send a signal to a process once it has done something, and return its exit code."""
    wait_until(process, is_reached)
    process.send_signal(number)
    process.communicate()
    return process.returncode


def seconds_without_torch(*words: str) -> float:
    """Run a command that ends before torch is imported, and return the CPU seconds that it takes."""
    program = (
        "import sys; sys.argv = ['run', *sys.argv[1:]]\n"
        "from gptexp import run\n"
        "try:\n    run.main()\n"
        "finally:\n    assert 'torch' not in sys.modules and 'lightning' not in sys.modules"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == (0 if {"--help", "--cfg"} & set(words) else 2), done.stderr
    assert "Traceback" not in done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """To the bit, under the same names."""
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(
        torch.equal(mine[name], theirs[name]) for name in mine
    )


def likeness(folder: RunFolder) -> tuple[Any, ...]:
    """What two runs share that are the same run: losses, result, and the bytes of the last checkpoint."""
    last = folder.checkpoint()
    assert last is not None
    rows = [drop_timings(row) for row in folder.metrics()]
    files = ("model.safetensors", "optimizer.safetensors", "optimizer.json")
    tensors = [(last / name).read_bytes() for name in files]
    return rows, folder.result().get("metrics"), tensors


@pytest.fixture
def chats_file(own_folder: Path) -> Path:
    """200 conversations of one to three turns, some with a system prompt; questions name their answers."""
    rng = random.Random(2)
    path = own_folder / "chats.jsonl"
    with path.open("w") as file:
        for number in range(200):
            system = {"role": "system", "content": "Be short."}
            messages = [system] if number % 2 else []
            for _ in range(rng.randint(1, 3)):
                word = rng.choice(WORDS)
                letter = rng.choice("bcdfghjkl")
                question = {"role": "user", "content": f"Say {word} {letter}"}
                messages += [question, {"role": "assistant", "content": word}]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path
