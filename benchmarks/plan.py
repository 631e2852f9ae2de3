"""Compare `gptexp plan` with measurements on this CPU: parameters, FLOPs, peak memory and time of nano, small and gpt2.

    OMP_NUM_THREADS=1 python benchmarks/plan.py                  about five minutes of one core
    OMP_NUM_THREADS=1 python benchmarks/plan.py nano small

Each size is planned as a user would, then `gptexp run` trains a few steps in a process of its own. FLOPs are those that
torch.utils.flop_counter counts. Memory is the peak of the resident set after the last step, less that of the same run
with a model of one narrow layer. Time is CPU seconds of a step, of all threads, so that other programs on the machine
change it little.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gptexp.config.compose import compose_config
from gptexp.distributed.devices import lightning_precision
from gptexp.model import Transformer
from gptexp.model.cost import count_flops, count_parameters
from gptexp.planning.device_memory import PROCESS_BYTES, plan_memory
from gptexp.planning.measure import measure_speed
from gptexp.planning.workload import describe_workload

# Steps, and what a step has: gpt2 takes a minute of a core for a step of the default size.
SIZES = {
    "nano": ["trainer.max_steps=40", "model.vocab_size=4096"],
    "small": ["trainer.max_steps=16", "model.vocab_size=4096"],
    "gpt2": ["trainer.max_steps=4", "model.vocab_size=50257", "trainer.global_batch_size=2"],
}
WARM_UP_STEPS = 2
TINY = [
    "model.layers=1",
    "model.d_model=32",
    "model.heads=2",
    "model.context=32",
    "model.vocab_size=300",
]
# It trains a run, leaves after the last step, and prints its peak of memory and the CPU seconds of a step.
MEASURED_RUN = """
import json, os, time
from gptexp.training.module import TrainModule
times, train = [], TrainModule.training_step
def training_step(self, *batch):
    times.append(time.process_time())
    train(self, *batch)
    if self.step == self.config.trainer.max_steps:
        steps = [*times[WARM_UP_STEPS:], time.process_time()]
        seconds = (steps[-1] - steps[0]) / (len(steps) - 1)
        status = open("/proc/self/status").read()  # ru_maxrss begins with that of the parent
        peak = 1024 * int(status.split("VmHWM:")[1].split()[0])
        print(json.dumps({"bytes": peak, "cpu_seconds": seconds}), flush=True)
        os._exit(0)
TrainModule.training_step = training_step
from gptexp.run import main
main()
""".replace("WARM_UP_STEPS", str(WARM_UP_STEPS))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", default=list(SIZES), choices=SIZES, metavar="SIZE")
    parser.add_argument("--add", nargs="+", default=[], metavar="KEY=VALUE", help="for all of them")
    args = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| size | quantity | planned | measured | planned / measured |")
    print("|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        write_text(text)
        for size in args.sizes:
            words = [
                f"model={size}",
                "task=pretrain",
                "data=files",
                f"data.path={text}",
                "tokenizer=byte",
                "init=scratch",
                "trainer.val_every=100000",
                "trainer.progress=false",
                "trainer.accelerator=cpu",
                "logger=none",
                f"outputs={folder}/outputs",
                f"cache={folder}/cache",
                *SIZES[size],
                *args.add,
            ]
            for name, planned, measured in compare(words):
                ratio = f"{planned / measured:.3f}"
                print(
                    f"| {size} | {name} | {planned:,.4g} | {measured:,.4g} | {ratio} |", flush=True
                )


def compare(words: list[str]) -> list[tuple[str, float, float]]:
    """Return what is planned and what is measured, by quantity."""
    config = compose_config(words)
    workload = describe_workload(config)
    bf16 = lightning_precision(config.trainer.precision, torch.device("cpu")) == "bf16-mixed"
    memory = plan_memory(config, workload, on_gpu=False, bf16=bf16, device_bytes=None)
    speed = measure_speed(config, workload, "cpu")
    model = Transformer(workload.model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    planned_flops = count_flops(workload.model, 1, workload.tokens).training
    flops = torch_flops(model, workload.tokens)
    del model
    run, tiny = measure_run(words), measure_run([*words, *TINY])
    return [
        ("parameters", count_parameters(workload.model), parameters),
        ("FLOPs of a sequence", planned_flops, flops),
        (
            "peak memory of training, MiB",
            memory.of_steps / 2**20,
            (run["bytes"] - tiny["bytes"]) / 2**20,
        ),
        ("the process without it, MiB", PROCESS_BYTES / 2**20, tiny["bytes"] / 2**20),
        ("CPU seconds of a step", speed.step_cpu_seconds, run["cpu_seconds"]),
    ]


def measure_run(words: list[str]) -> dict[str, float]:
    """Train a few steps in a process of its own; return its peak of memory in bytes, and CPU seconds of a step."""
    command = [sys.executable, "-c", MEASURED_RUN, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def torch_flops(model: Transformer, tokens: int) -> int:
    """Count the operations of both passes over one sequence as torch does, with attention that its counter knows."""
    ids = torch.randint(256, (1, tokens))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model.loss(ids, ids).targets.backward()
    return counter.get_total_flops()


def write_text(path: Path) -> None:
    """Write random words, enough for a window of every size."""
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghij", k=rng.randint(2, 9))) for _ in range(3000)]
    lines = [" ".join(rng.choices(words, k=20)) + "." for _ in range(8000)]
    path.write_text("\n".join(lines))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
